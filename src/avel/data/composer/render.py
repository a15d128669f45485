"""A composed scene as frames, boxes and samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avel import clock
from avel.data.composer.pictures import SOLID, cut_out, draw_ground, read_picture
from avel.data.composer.recordings import (
    RATE,
    PlacedExcerpt,
    later,
    lay_out,
    play_excerpts,
    read_recording,
)
from avel.data.composer.scene import ComposedScene, PlacedThing
from avel.data.script import Span
from avel.data.toybox.render import Box, Frame, on_at
from avel.data.toybox.sounds import loudness, noise_bed

Roots = Mapping[str, Path]


class Cutout:
    """A thing's pictures: one of each size that it has, drawn once."""

    def __init__(self, thing: PlacedThing, root: Path, *, height: int) -> None:
        self.thing = thing
        self._largest = max(8, round(thing.size * height))
        image = read_picture(root / thing.file.file)
        self._whole = cut_out(
            image, shape=thing.shape, tilt=thing.tilt, flip=thing.flip, side=self._largest
        )
        self._drawn: dict[int, tuple[Image.Image, Image.Image, tuple[int, int, int, int]]] = {}

    def picture(self, seconds: float) -> tuple[Image.Image, Image.Image, tuple[int, int, int, int]]:
        """RGB, alpha, and the bounding box within them, at an instant."""
        start, end = self.thing.spans[0]
        a, b = self.thing.scale
        scale = a + (b - a) * clock.share(seconds - start, end - start)
        side = max(8, round(self._whole.width * scale))
        if side not in self._drawn:
            image = self._whole
            if side != image.width:
                image = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
            alpha = image.getchannel("A")
            bounds = alpha.point([255 * (v > SOLID) for v in range(256)]).getbbox()
            self._drawn[side] = image.convert("RGB"), alpha, bounds or (0, 0, 1, 1)
        return self._drawn[side]

    def on(self, seconds: float) -> bool:
        """Whether it is on screen at an instant."""
        return on_at(self.thing.spans, seconds) and not on_at(self.thing.blinks, seconds)

    def corner(self, seconds: float, side: int, width: int, height: int) -> tuple[int, int]:
        """Where its square's upper left corner lies, in pixels."""
        x, y = self.thing.path.at(seconds)
        return round(x * width - side / 2), round(y * height - side / 2)

    def box(self, seconds: float, width: int, height: int) -> Box:
        """Its bounding box in the picture, whatever is before it; None where it isn't there."""
        if not self.on(seconds):
            return None
        image, _, (x0, y0, x1, y1) = self.picture(seconds)
        x, y = self.corner(seconds, image.width, width, height)
        box = max(0, x + x0), max(0, y + y0), min(width, x + x1), min(height, y + y1)
        return box if box[0] < box[2] and box[1] < box[3] else None


class DrawnScene:
    """A scene's background and things, ready to be drawn at any instant.

    Args:
        scene: The clip.
        roots: The folders of ``images`` and ``backgrounds``.
        width, height: Pixels.

    Raises:
        DataError: if a photograph can't be read.
    """

    def __init__(self, scene: ComposedScene, roots: Roots, *, width: int, height: int) -> None:
        rng = scene.stream("ground")
        kind, file = scene.ground
        self._size = width, height
        self._edge = max(4, height // 30)
        self._ground = draw_ground(
            read_picture(roots["backgrounds"] / file.file),
            kind,
            rng,
            width=width + 2 * self._edge,
            height=height + 2 * self._edge,
        )
        self._drift = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0
        self._period = rng.uniform(3, 9)
        self._cutouts = [Cutout(t, roots["images"], height=height) for t in scene.things]

    def frame(self, seconds: float) -> Frame:
        """What is seen at an instant, (height, width, 3)."""
        turn = 2 * np.pi * seconds / self._period
        x = round(self._edge * (1 + self._drift * float(np.sin(turn))))
        y = round(self._edge * (1 + self._drift * float(np.cos(1.3 * turn))))
        width, height = self._size
        canvas = self._ground.crop((x, y, x + width, y + height))
        for cutout in self._cutouts:
            if cutout.on(seconds):
                image, alpha, _ = cutout.picture(seconds)
                canvas.paste(image, cutout.corner(seconds, image.width, width, height), alpha)
        return np.asarray(canvas)

    def boxes(self, instants: list[float]) -> list[list[Box]]:
        """For each thing the box of each instant."""
        return [[c.box(t, *self._size) for t in instants] for c in self._cutouts]


def render_sound(
    scene: ComposedScene, root: Path
) -> tuple[NDArray[np.float32], list[list[PlacedExcerpt]]]:
    """The sound track of a scene, mono at ``RATE``, softly limited to -1..1.

    Args:
        scene: The clip.
        root: The folder of all sounds.

    Returns:
        The samples, and of each sound the excerpts that it is made of.

    Raises:
        AvelError: if a recording can't be decoded, or is silent.
    """
    count, by = clock.sample_index(scene.seconds, RATE), round(scene.offset * RATE)
    kind, level = scene.bed
    track = noise_bed(kind, count, rate=RATE, level=level, rng=scene.stream("bed"))
    excerpts_of = []
    for sound in scene.sounds:
        rng = scene.stream("sounds", sound.stream)
        recording = read_recording(root / sound.file.file)
        excerpts: list[PlacedExcerpt] = []
        for span, drawn in zip(sound.spans, sound.drawn, strict=True):
            first, last = _samples(span)
            span_excerpts = later(lay_out(recording.loud, *_samples(drawn), rng), by, first, last)
            if by > 0 and not first:  # on as the clip begins: what sounded before it
                span_excerpts += lay_out(recording.loud, 0, min(by, last), rng)
            elif by < 0 and last == count:
                span_excerpts += lay_out(recording.loud, max(first, count + by), count, rng)
            wave = play_excerpts(recording.samples, span_excerpts, first, last)
            gain = 10 ** ((level + sound.snr) / 20) / max(loudness(wave, RATE), 1e-9)
            track[first:last] += gain * wave
            excerpts += span_excerpts
        excerpts_of.append(excerpts)
    return np.tanh(track).astype(np.float32), excerpts_of


def _samples(span: Span) -> tuple[int, int]:
    return clock.sample_index(span[0], RATE), clock.sample_index(span[1], RATE)
