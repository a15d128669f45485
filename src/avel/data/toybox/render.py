"""A scene as frames, boxes and samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from avel import clock
from avel.data.script import Span
from avel.data.toybox.scene import ToyScene, ToyThing
from avel.data.toybox.sounds import noise_bed, play
from avel.data.toybox.things import draw_thing

Frame = NDArray[np.uint8]
#: Corners in pixels (x0, y0, x1, y1), ends exclusive, or None where the thing isn't on screen.
Box = tuple[int, int, int, int] | None

#: Pictures a turn of a thing's animation: each is drawn once.
PHASES = 12


class Sprite:
    """A thing's animation, drawn once: (size of a picture, its alpha, where it isn't empty)."""

    def __init__(self, thing: ToyThing, *, height: int) -> None:
        self.thing = thing
        self.side = max(8, round(thing.size * height))
        self._drawn: dict[int, tuple[NDArray[np.float32], NDArray[np.float32], Any]] = {}

    def picture(self, seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32], Any]:
        """(h, w, 3) colours, (h, w, 1) alpha 0..1, and the bounding box within the square."""
        look = self.thing.look
        phase = int((seconds * look.pace + look.phase) * PHASES) % PHASES
        if phase not in self._drawn:
            image = draw_thing(self.thing.label, look, side=self.side, phase=phase / PHASES)
            bounds = image.getchannel("A").point(lambda a: 255 * (a > 60)).getbbox()
            rgba = np.asarray(image, np.float32)
            self._drawn[phase] = (
                rgba[..., :3],
                rgba[..., 3:] / np.float32(255),
                bounds or (0, 0, 1, 1),
            )
        return self._drawn[phase]


def on_at(spans: Sequence[Span], seconds: float) -> bool:
    """Whether an instant lies in one of the spans."""
    return any(start - 1e-6 <= seconds < end - 1e-6 for start, end in spans)


def _corner(sprite: Sprite, seconds: float, side: int, width: int, height: int) -> tuple[int, int]:
    x, y = sprite.thing.path.at(seconds)
    return round(x * width - side / 2), round(y * height - side / 2)


def paste_sprite(canvas: NDArray[np.float32], sprite: Sprite, seconds: float) -> None:
    """Draw a thing, as it is at an instant, onto a (height, width, 3) canvas."""
    height, width = canvas.shape[:2]
    colours, alpha, _ = sprite.picture(seconds)
    side = len(alpha)
    x, y = _corner(sprite, seconds, side, width, height)
    x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + side), min(height, y + side)
    if x0 >= x1 or y0 >= y1:
        return
    inner = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
    under = canvas[y0:y1, x0:x1]
    under += alpha[inner] * (colours[inner] - under)


def sprite_box(sprite: Sprite, seconds: float, *, width: int, height: int) -> Box:
    """A thing's bounding box in the picture at an instant."""
    if not on_at(sprite.thing.spans, seconds):
        return None
    _, alpha, (x0, y0, x1, y1) = sprite.picture(seconds)
    x, y = _corner(sprite, seconds, len(alpha), width, height)
    box = max(0, x + x0), max(0, y + y0), min(width, x + x1), min(height, y + y1)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _clutter(image: Image.Image, rng: np.random.Generator) -> None:
    """Abstract shapes that belong to no class."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(int(rng.integers(0, 14))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.03, 0.3, 2) * height
        colour = tuple(int(v) for v in rng.integers(20, 236, 3))
        kind = rng.integers(4)
        if kind == 0:
            draw.rectangle([x, y, x + w, y + h], fill=colour)
        elif kind == 1:
            draw.ellipse([x, y, x + w, y + h], fill=colour)
        elif kind == 2:
            far = rng.uniform(-0.2, 0.2, 4) * height
            draw.polygon([x, y, x + far[0], y + far[1], x + far[2], y + far[3]], fill=colour)
        else:
            draw.line([x, y, x + 2 * w, y + 2 * h], fill=colour, width=int(rng.integers(1, 6)))


def draw_background(rng: np.random.Generator, *, width: int, height: int) -> NDArray[np.float32]:
    """(height, width, 3) of a gradient, blobs, texture and clutter, contrast drawn."""
    ends = rng.uniform(40, 220, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    ramp = (np.cos(angle) * x + np.sin(angle) * y)[..., None] / 2.83 + 0.5
    picture = ends[0] + (ends[1] - ends[0]) * ramp
    coarse = rng.standard_normal((int(rng.integers(2, 14)), int(rng.integers(2, 18)), 3))
    blobs = np.stack(
        [
            np.asarray(Image.fromarray(c.astype(np.float32)).resize((width, height), 3))
            for c in coarse.transpose(2, 0, 1)
        ],
        axis=-1,
    )
    picture = picture + rng.uniform(0, 28) * blobs
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    _clutter(image, rng)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2) * height / 240))
    grain = rng.standard_normal((height, width, 1)) * rng.uniform(0, 10)
    return np.asarray(np.asarray(image, np.float32) + grain, np.float32)


class Camera:
    """Background, a slow drift of it, and the sensor's noise."""

    def __init__(self, rng: np.random.Generator, *, width: int, height: int) -> None:
        self.shape = (height, width)
        self._edge = max(4, height // 30)
        self._ground = draw_background(
            rng, width=width + 2 * self._edge, height=height + 2 * self._edge
        )
        self._drift = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0
        self._period = rng.uniform(3, 9)
        level = rng.uniform(0, 7)
        self._noise = rng.standard_normal((height + 64, width + 64, 1), np.float32) * level
        self._rng = rng

    def ground(self, seconds: float) -> NDArray[np.float32]:
        """The background of an instant, (height, width, 3)."""
        turn = 2 * np.pi * seconds / self._period
        x = round(self._edge * (1 + self._drift * float(np.sin(turn))))
        y = round(self._edge * (1 + self._drift * float(np.cos(1.3 * turn))))
        return self._ground[y : y + self.shape[0], x : x + self.shape[1]].copy()

    def expose(self, canvas: NDArray[np.float32]) -> Frame:
        """A canvas with noise, as bytes."""
        x, y = self._rng.integers(0, 64, 2)
        canvas += self._noise[y : y + self.shape[0], x : x + self.shape[1]]
        return np.clip(canvas, 0, 255).astype(np.uint8)


def render_frames(
    scene: ToyScene, *, width: int = 320, height: int = 240, fps: int = 12
) -> Iterator[Frame]:
    """The frames of a scene, (height, width, 3) each."""
    camera = Camera(np.random.default_rng([*scene.seed, 1]), width=width, height=height)
    sprites = [Sprite(thing, height=height) for thing in scene.things]
    for seconds in clock.frame_instants(0.0, scene.seconds, fps):
        canvas = camera.ground(seconds)
        for sprite in sprites:
            if on_at(sprite.thing.spans, seconds):
                paste_sprite(canvas, sprite, seconds)
        yield camera.expose(canvas)


def render_boxes(
    scene: ToyScene, *, width: int = 320, height: int = 240, fps: int = 12
) -> list[list[Box]]:
    """For each thing the box of each frame."""
    sprites = [Sprite(thing, height=height) for thing in scene.things]
    instants = list(clock.frame_instants(0.0, scene.seconds, fps))
    return [
        [sprite_box(sprite, t, width=width, height=height) for t in instants] for sprite in sprites
    ]


def render_sound(scene: ToyScene, *, rate: int = 16000) -> NDArray[np.float32]:
    """The sound track of a scene, mono, softly limited to -1..1."""
    count = clock.sample_index(scene.seconds, rate)
    rng = np.random.default_rng([*scene.seed, 2])
    track = noise_bed(scene.bed[0], count, rate=rate, level=scene.bed[1], rng=rng)
    for sound in scene.sounds:
        sound_rng = np.random.default_rng([*scene.seed, 3, sound.seed])
        for start, end in sound.spans:
            first, last = clock.sample_index(start, rate), clock.sample_index(end, rate)
            track[first:last] += play(
                sound.label,
                last - first,
                rate=rate,
                pitch=sound.pitch,
                pace=sound.pace,
                level=sound.level,
                wet=sound.wet,
                rng=sound_rng,
            )
    return np.tanh(track).astype(np.float32)
