"""The script of a Toybox clip: what is seen and heard when. Pure and seeded; nothing is rendered.

An event is a stretch in which a thing is on screen **and** sounds; who rivals it, ``acts`` draws.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from avel import clock
from avel.data.script import Rng, Span, acts_of, draw_act, units_of
from avel.data.toybox.things import CLASSES, Colour, Look
from avel.types import Event

#: Changes whenever the same seed would give other clips.
VERSION = 1
#: Seeds of different namespaces never give the same clip: the mini backbones are trained on
#: "minis" alone, which no Toybox folder is drawn from.
NAMESPACES = {"toybox": 1, "minis": 2}


@dataclass(frozen=True)
class Path:
    """Where a thing's middle is: ``still``, ``linear``, ``bouncing`` or ``circular``.

    Args:
        kind: The form of the movement.
        x, y: Middle of the movement, shares of the picture's width and height.
        dx, dy: Half the movement's extent, likewise.
        period: Seconds a round.
        phase: 0..1 of a round at the start.
    """

    kind: str
    x: float
    y: float
    dx: float
    dy: float
    period: float
    phase: float

    def at(self, seconds: float) -> tuple[float, float]:
        """Middle of the thing at an instant."""
        turn = seconds / self.period + self.phase
        if self.kind == "still":
            return self.x, self.y
        if self.kind == "circular":
            angle = 2 * np.pi * turn
            return self.x + self.dx * float(np.cos(angle)), self.y + self.dy * float(np.sin(angle))
        swing = 1 - 4 * abs(turn % 1.0 - 0.5)
        if self.kind == "linear":
            return self.x + self.dx * swing, self.y + self.dy * swing
        hop = 2 * abs(float(np.sin(2 * np.pi * turn))) - 1
        return self.x + self.dx * swing, self.y - self.dy * hop


@dataclass(frozen=True)
class ToyThing:
    """A drawn thing and when it is on screen.

    Args:
        label: Its class.
        spans: Seconds on screen, ends exclusive.
        size: Its side as a share of the picture's height.
        path: Its movement.
        look: Its colours and animation.
    """

    label: str
    spans: tuple[Span, ...]
    size: float
    path: Path
    look: Look


@dataclass(frozen=True)
class ToySound:
    """A thing's sound and when it is heard.

    Args:
        label: Its class.
        spans: Seconds heard, ends exclusive.
        pitch, pace: Factors on frequency and rhythm.
        level: dBFS of its louder parts.
        wet: Share of echo, 0..1.
        seed: Of its small irregularities.
    """

    label: str
    spans: tuple[Span, ...]
    pitch: float
    pace: float
    level: float
    wet: float
    seed: int


@dataclass(frozen=True)
class ToyScene:
    """A clip before it is rendered.

    Args:
        name: ``s<seed>_<index>``.
        seconds: Its length.
        things, sounds: In no telling order.
        events: What is seen and heard, by start.
        rivals: Of each act: (has a rival sound, has a rival thing).
        bed: Kind of background noise, and its level in dBFS.
        seed: Of background, clutter and camera noise.
    """

    name: str
    seconds: float
    things: tuple[ToyThing, ...]
    sounds: tuple[ToySound, ...]
    events: tuple[Event, ...]
    rivals: tuple[tuple[bool, bool], ...]
    bed: tuple[str, float]
    seed: tuple[int, ...]


def scene_rng(namespace: str, *numbers: int) -> Rng:
    """A generator of its own for every (namespace, numbers)."""
    return np.random.default_rng([VERSION, NAMESPACES[namespace], *numbers])


def draw_look(rng: Rng) -> Look:
    """Colours, outline, tilt and pace, independent of the class."""

    def colour(value: Span) -> Colour:
        rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 1.0), rng.uniform(*value))
        return (int(255 * rgb[0]), int(255 * rgb[1]), int(255 * rgb[2]))

    return Look(
        body=colour((0.6, 1.0)),
        trim=colour((0.3, 0.9)),
        ink=colour((0.0, 0.25)),
        outline=float(rng.choice([0.0, 0.012, 0.02, 0.03])),
        tilt=float(rng.uniform(-18, 18)),
        sway=float(rng.uniform(0, 12)),
        flip=bool(rng.random() < 0.5),
        pace=float(rng.uniform(0.6, 1.6)),
        phase=float(rng.random()),
    )


def draw_size(rng: Rng) -> float:
    """Side of a thing as a share of the height: 1/7 to 1/2, small ones more often."""
    return float(np.exp(rng.uniform(np.log(1 / 7), np.log(1 / 2))))


def draw_path(size: float, rng: Rng, aspect: float) -> Path:
    """A movement for a thing whose side is ``size`` of the picture's height.

    Within the picture, but for things that are as wide or as high as it is: those stay about its
    middle.
    """
    kind = str(rng.choice(["still", "linear", "bouncing", "circular"]))
    wide, high = size / aspect / 2, size / 2
    dx = 0.0 if kind == "still" else float(rng.uniform(0.02, 0.16))
    dy = 0.0 if kind == "still" else float(rng.uniform(0.02, 0.16))
    across, down = min(wide + dx, 0.5), min(high + dy, 0.5)
    return Path(
        kind,
        x=float(rng.uniform(across, 1 - across)),
        y=float(rng.uniform(down, 1 - down)),
        dx=dx,
        dy=dy,
        period=float(rng.uniform(1.5, 5.0)),
        phase=float(rng.random()),
    )


def crowding(path: Path, size: float, others: Iterable[tuple[Path, float]], aspect: float) -> float:
    """Share of the path's room that the rooms of others, (path, size) each, take up."""

    def room(p: Path, s: float) -> tuple[float, float, float, float]:
        w, h = s / aspect / 2 + p.dx, s / 2 + p.dy
        return p.x - w, p.y - h, p.x + w, p.y + h

    x0, y0, x1, y1 = room(path, size)
    taken = 0.0
    for other in others:
        u0, v0, u1, v1 = room(*other)
        taken += max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
    return taken / ((x1 - x0) * (y1 - y0))


def draw_thing_script(
    label: str, spans: tuple[Span, ...], others: list[ToyThing], rng: Rng, *, aspect: float = 4 / 3
) -> ToyThing:
    """A thing of a drawn size and look where it hides the others least."""
    size = draw_size(rng)
    paths = [draw_path(size, rng, aspect) for _ in range(12)]
    rooms = [(other.path, other.size) for other in others]
    path = min(paths, key=lambda p: crowding(p, size, rooms, aspect))
    return ToyThing(label, spans, size, path, draw_look(rng))


def draw_sound_script(label: str, spans: tuple[Span, ...], rng: Rng) -> ToySound:
    """A sound of drawn pitch, rhythm, loudness and room."""
    return ToySound(
        label,
        spans,
        pitch=float(2 ** rng.uniform(-0.3, 0.3)),
        pace=float(rng.uniform(0.8, 1.3)),
        level=float(rng.uniform(-26, -14)),
        wet=float(rng.uniform(0, 0.5)),
        seed=int(rng.integers(2**31)),
    )


def draw_bed(rng: Rng) -> tuple[str, float]:
    """Kind of background noise, and its level in dBFS."""
    return str(rng.choice(["white", "pink", "hum"])), float(rng.uniform(-56, -38))


def _shift(span: Span, start: float, units: int, length: float) -> Span:
    """A span of whole seconds within an act, on the clip's clock; the last second may be longer."""
    end = length if span[1] == units else span[1]
    return start + span[0], start + end


def make_scene(
    seed: int,
    index: int,
    *,
    seconds: float = 10.0,
    namespace: str = "toybox",
    aspect: float = 4 / 3,
) -> ToyScene:
    """The script of clip ``index`` of a seed; it depends on nothing else.

    Args:
        seed: Of the data set, >= 0.
        index: Of the clip, >= 0.
        seconds: Length of the clip; up to ``acts.ACT`` seconds hold one event, longer clips one in
            each of several acts.
        namespace: ``"toybox"``, or ``"minis"`` for training the mini backbones.
        aspect: Width over height of the picture.

    Raises:
        ValueError: for a length that isn't positive.
    """
    clock.segment_count(seconds)
    rng = scene_rng(namespace, seed, index, 0)
    things: list[ToyThing] = []
    sounds: list[ToySound] = []
    events: list[Event] = []
    rivals = []
    avoid = ""
    for start, length in acts_of(seconds):
        units = units_of(length)
        act = draw_act(units, [c for c in CLASSES if c != avoid], rng)
        for label, span in (act.visible[i] for i in rng.permutation(len(act.visible))):
            on = (_shift(span, start, units, length),)
            here = [t for t in things if t.spans[-1][1] > start]
            things.append(draw_thing_script(label, on, here, rng, aspect=aspect))
        for label, span in (act.audible[i] for i in rng.permutation(len(act.audible))):
            sounds.append(draw_sound_script(label, (_shift(span, start, units, length),), rng))
        if act.event:
            avoid, span = act.event
            events.append(Event(*_shift(span, start, units, length), avoid, 1.0))
        rivals.append(act.rivals)
    return ToyScene(
        name=f"s{seed}_{index:06d}",
        seconds=seconds,
        things=tuple(things),
        sounds=tuple(sounds),
        events=tuple(events),
        rivals=tuple(rivals),
        bed=draw_bed(rng),
        seed=(VERSION, NAMESPACES[namespace], seed, index),
    )


def split_of(seed: int, index: int) -> str:
    """``train``, ``val`` or ``test``: seven, one and two of every ten clips, by the seed."""
    order = scene_rng("toybox", seed, index // 10, 9, 9).permutation(10)
    place = int(order[index % 10])
    return "train" if place < 7 else "val" if place == 7 else "test"


def script_json(scene: ToyScene) -> dict[str, Any]:
    """The script as plain data, numbers rounded so that its bytes are the same everywhere."""
    return {
        "name": scene.name,
        "seconds": scene.seconds,
        "events": [{"start": e.start, "end": e.end, "label": e.label} for e in scene.events],
        "things": [
            {"label": t.label, "spans": t.spans, "size": round(t.size, 4), "path": t.path.kind}
            for t in scene.things
        ],
        "sounds": [
            {"label": s.label, "spans": s.spans, "level": round(s.level, 2)} for s in scene.sounds
        ],
        "rivals": [{"sound": a, "thing": b} for a, b in scene.rivals],
        "noise": {"kind": scene.bed[0], "level": round(scene.bed[1], 2)},
    }
