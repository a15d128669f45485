"""The script of a composed clip: which files are seen and heard when. Pure; nothing is decoded.

An event is a stretch in which a thing is on screen **and** sounds. Who rivals it, ``acts`` draws in
whole seconds; here every edge within the clip moves by up to half a second (a quarter where the
event is but a second long), so that AVE's rule (a second belongs to the event that fills half of
it) gives back the whole seconds drawn, where the acts begin on whole ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from avel import clock
from avel.data.composer.bank import Bank, SourceFile
from avel.data.composer.pairs import SPLITS, Pairs
from avel.data.script import Act, Rng, Span, acts_of, draw_act, draw_event, units_of
from avel.data.toybox.scene import Path, crowding, draw_path
from avel.types import Event

#: Changes whenever the same seed would give other clips.
VERSION = 1
#: Of each clip's independent streams of chance.
STREAMS = {"script": 0, "ground": 1, "bed": 2, "sounds": 3, "offset": 4}
#: Share of events and rivals that begin with the clip (end with it) to the very instant.
FLUSH = 0.7
#: Where an edge moves within half a second of its whole one.
_SHIFT = 0.49
#: Kinds and levels (dBFS) of background noise.
BEDS = ("white", "pink", "hum")
BED_LEVELS = (-50.0, -40.0)
#: Decibels over full scale's 0 that no sound is drawn above.
LOUDEST = -10.0
#: Shapes that a photograph without transparency is cut into.
SHAPES = ("round", "soft", "square")


@dataclass(frozen=True)
class PlacedThing:
    """A photograph in the picture.

    Args:
        label: Its class.
        file: Where it is from.
        spans: Seconds on screen, ends exclusive.
        blinks: Gaps in those, none longer than 0.4 s; annotations take no notice of them.
        size: Its longer side as a share of the picture's height, when it is largest.
        scale: Share of that at the start and at the end of its span.
        path: Its movement.
        shape, tilt, flip: How it is cut, turned (degrees) and mirrored.
    """

    label: str
    file: SourceFile
    spans: tuple[Span, ...]
    blinks: tuple[Span, ...]
    size: float
    scale: tuple[float, float]
    path: Path
    shape: str
    tilt: float
    flip: bool


@dataclass(frozen=True)
class PlacedSound:
    """A recording in the sound track.

    Args:
        label: Its class.
        file: Where it is from.
        spans: Seconds heard, ends exclusive.
        drawn: The same without the offset.
        snr: Decibels of its louder parts over the noise.
        stream: Number of its own stream of chance.
    """

    label: str
    file: SourceFile
    spans: tuple[Span, ...]
    drawn: tuple[Span, ...]
    snr: float
    stream: int


@dataclass(frozen=True)
class Occurrence:
    """An event with what makes it.

    Args:
        event: On the picture's clock.
        seen: The seconds its thing is on screen.
        sound: Its sound, as it is heard.
    """

    event: Event
    seen: Span
    sound: PlacedSound


@dataclass(frozen=True)
class ComposedScene:
    """A clip before it is rendered.

    Args:
        name: ``<split>_<index>``.
        split: ``train``, ``val`` or ``test``.
        seconds: Its length.
        things: The hindmost first.
        sounds: In no telling order.
        occurrences: What is seen and heard, by start.
        rivals: Of each act: (has a rival sound, has a rival thing).
        offset: Seconds that the sounds come after their sight; below 0 before it.
        ground: Kind of background, and its photograph.
        bed: Kind of background noise, and its level in dBFS.
        seed: What all its streams of chance begin with.
    """

    name: str
    split: str
    seconds: float
    things: tuple[PlacedThing, ...]
    sounds: tuple[PlacedSound, ...]
    occurrences: tuple[Occurrence, ...]
    rivals: tuple[tuple[bool, bool], ...]
    offset: float
    ground: tuple[str, SourceFile]
    bed: tuple[str, float]
    seed: tuple[int, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """What is seen and heard, by start, on the picture's clock."""
        return tuple(o.event for o in self.occurrences)

    def stream(self, name: str, *numbers: int) -> Rng:
        """A generator of its own for every stream."""
        return np.random.default_rng([*self.seed, STREAMS[name], *numbers])


def make_scene(
    pairs: Pairs,
    bank: Bank,
    *,
    seed: int,
    split: str,
    index: int,
    offset: tuple[float, float] = (0.0, 0.0),
) -> ComposedScene:
    """The script of a split's clip ``index``; how many others there are changes nothing.

    Args:
        pairs, bank: What it is drawn from.
        seed: Of the data set, >= 0.
        split: ``train``, ``val`` or ``test``: only that side's sources are drawn.
        index: Of the clip within the split, >= 0.
        offset: Least and most seconds from sight to sound. Clips with it are those without it but
            for the moved sounds.
    """
    begin = (VERSION, seed, SPLITS.index(split), index)
    rng = np.random.default_rng([*begin, STREAMS["script"]])
    draw = _Draw(pairs, bank, split, rng)
    avoid, rivals = "", []
    for start, length in acts_of(pairs.seconds):
        classes = [c for c in pairs.classes if c != avoid]
        units = units_of(length)
        act = draw_act(units, classes if len(classes) > 2 else pairs.classes, rng)
        draw.act(act, start, length, units)
        avoid = act.event[0] if act.event else ""
        rivals.append(act.rivals)
    late = round(float(np.random.default_rng([*begin, STREAMS["offset"]]).uniform(*offset)), 3)
    sounds = [_late(s, late, pairs.seconds) for s in draw.sounds]
    return ComposedScene(
        name=f"{split}_{index:06d}",
        split=split,
        seconds=pairs.seconds,
        things=tuple(draw.things[i] for i in rng.permutation(len(draw.things))),
        sounds=tuple(s for s in sounds if s.spans),
        occurrences=tuple(
            Occurrence(event, seen, sounds[i]) for event, seen, i in draw.events if sounds[i].spans
        ),
        rivals=tuple(rivals),
        offset=late,
        ground=(str(rng.choice(pairs.kinds)), _pick(bank.by_source["backgrounds", split, ""], rng)),
        bed=(str(rng.choice(BEDS)), draw.bed),
        seed=begin,
    )


def _pick(sources: Sequence[Sequence[SourceFile]], rng: Rng) -> SourceFile:
    """A file of a drawn source, so that sources with many files aren't drawn more often."""
    files = sources[int(rng.integers(len(sources)))]
    return files[int(rng.integers(len(files)))]


def _late(sound: PlacedSound, late: float, seconds: float) -> PlacedSound:
    """A sound that comes later; one that is on as the clip begins (ends) is still on then."""

    def moved(at: float) -> float:
        return at if at in (0.0, seconds) else round(min(max(at + late, 0.0), seconds), 3)

    later = [((moved(a), moved(b)), (a, b)) for a, b in sound.drawn]
    clipped = [(span, drawn) for span, drawn in later if clock.lasts(*span, 0.05)]
    return replace(sound, spans=tuple(s for s, _ in clipped), drawn=tuple(d for _, d in clipped))


class _Draw:
    """Draws one clip's things, sounds and events, act by act."""

    def __init__(self, pairs: Pairs, bank: Bank, split: str, rng: Rng) -> None:
        self.pairs, self.rng = pairs, rng
        self._bank, self._split = bank, split
        self._aspect = pairs.width / pairs.height
        self.things: list[PlacedThing] = []
        self.sounds: list[PlacedSound] = []
        self.events: list[tuple[Event, Span, int]] = []  # with the sight, and the sound's place
        self.bed = float(rng.uniform(*BED_LEVELS))

    def act(self, act: Act, start: float, length: float, units: int) -> None:
        """Draw what an act says, its whole seconds moved and on the clip's clock."""
        edges = self._edges(start, length, units)
        if act.event:
            first, last = (int(at) for at in act.event[1])
            if last - first == 1:  # or AVE's rule might leave nothing of it
                ends = {0: start, units: start + length}
                for k in (first, last):
                    drawn = ends.get(k, start + k)
                    edges[k] = round((edges[k] + drawn) / 2, 3)
            event = Event(*_at(act.event[1], edges), act.event[0], 1.0)
            self.events.append((event, _at(act.visible[0][1], edges), len(self.sounds)))
        for order, (label, span) in enumerate(act.visible):
            own = edges if order == 0 and act.event else self._edges(start, length, units)
            self.things.append(self._thing(label, _at(span, own), start))
        for order, (label, span) in enumerate(act.audible):
            own = edges if order == 0 and act.event else self._edges(start, length, units)
            self.sounds.append(self._sound(label, _at(span, own)))
        there = {label for label, _ in (*act.visible, *act.audible)}
        others = [c for c in self.pairs.classes if c not in there]
        if others and self.rng.random() < self.pairs.ranges.crowd:
            label = str(self.rng.choice(others))
            full = bool(self.rng.random() < 0.5)
            seen = draw_event(units, full or units < 2, self.rng)[1]
            own = self._edges(start, length, units)
            self.things.append(self._thing(label, _at(seen, own), start))

    def _edges(self, start: float, length: float, units: int) -> list[float]:
        """Where an act's whole seconds 0..units come to lie on the clip's clock, to a millisecond.

        They keep their order. The first and the last stay with the act's ends in most cases.
        """
        rng = self.rng
        if units < 2:
            return [start, start + length]
        moved = np.arange(units + 1) + rng.uniform(-_SHIFT, _SHIFT, units + 1)
        moved[0] = 0.0 if rng.random() < FLUSH else rng.uniform(0, _SHIFT)
        moved[-1] = length if rng.random() < FLUSH else length - rng.uniform(0, _SHIFT)
        return [round(start + float(m), 3) for m in moved]

    def _thing(self, label: str, span: Span, start: float) -> PlacedThing:
        """A photograph of a drawn size where it doesn't hide the others much."""
        rng, ranges = self.rng, self.pairs.ranges
        low, high = ranges.size
        size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        others = [(t.path, t.size) for t in self.things if t.spans[-1][1] > start]
        paths = [draw_path(size, rng, self._aspect) for _ in range(12)]
        hidden = [crowding(p, size, others, self._aspect) for p in paths]
        most = float(rng.uniform(0, 0.4))
        fine = [i for i, h in enumerate(hidden) if h <= most]
        path = paths[fine[0] if fine else int(np.argmin(hidden))]
        scale = (1.0, 1.0)
        if rng.random() < ranges.grow:
            small = max(low / size, float(rng.uniform(0.4, 0.8)))
            scale = (small, 1.0) if rng.random() < 0.5 else (1.0, small)
        return PlacedThing(
            label,
            _pick(self._bank.by_source["images", self._split, label], rng),
            (span,),
            self._blinks(span) if rng.random() < ranges.blink else (),
            size,
            scale,
            path,
            shape=str(rng.choice(SHAPES)),
            tilt=float(rng.uniform(-15, 15)),
            flip=bool(rng.random() < 0.5),
        )

    def _blinks(self, span: Span) -> tuple[Span, ...]:
        """Gaps of 0.15 to 0.4 s, more than a second from one to the next, none at the ends."""
        spans: list[Span] = []
        at = span[0] + float(self.rng.uniform(0.5, 2.0))
        while at < span[1] - 0.9:
            gap = float(self.rng.uniform(0.15, 0.4))
            spans.append((round(at, 3), round(at + gap, 3)))
            at += gap + float(self.rng.uniform(1.2, 4.0))
        return tuple(spans)

    def _sound(self, label: str, span: Span) -> PlacedSound:
        snr = min(float(self.rng.uniform(*self.pairs.ranges.snr)), LOUDEST - self.bed)
        file = _pick(self._bank.by_source["sounds", self._split, label], self.rng)
        return PlacedSound(label, file, (span,), (span,), snr, len(self.sounds))


def _at(span: Span, edges: Sequence[float]) -> Span:
    return edges[int(span[0])], edges[int(span[1])]


def whole_events(scene: ComposedScene) -> tuple[Event, ...]:
    """The events on whole seconds by AVE's rule: the segments that they fill half of, or more."""
    events = []
    count = clock.segment_count(scene.seconds)
    for event in scene.events:
        covered = clock.event_labels(event.start, event.end, count)
        for first, end, inside in clock.runs([int(c) for c in covered]):
            if inside:
                events.append(Event(float(first), float(end), event.label, 1.0))
    return tuple(events)


def segment_labels(scene: ComposedScene) -> list[str]:
    """The class of every second, ``""`` for background."""
    labels = [""] * clock.segment_count(scene.seconds)
    for event in whole_events(scene):
        first, end = int(event.start), int(event.end)
        labels[first:end] = [event.label] * (end - first)
    return labels


def script_json(scene: ComposedScene, roots: Mapping[str, str]) -> dict[str, Any]:
    """The script as plain data, numbers rounded so that its bytes are the same everywhere.

    Args:
        scene: The clip.
        roots: What the folders of ``sounds``, ``images`` and ``backgrounds`` are called in it.
    """
    return {
        "name": scene.name,
        "split": scene.split,
        "seconds": scene.seconds,
        "offset": scene.offset,
        "segments": segment_labels(scene),
        "events": [
            {"start": o.event.start, "end": o.event.end, "label": o.event.label,
             "seen": o.seen, "heard": o.sound.spans[0]}
            for o in scene.occurrences
        ],
        "things": [
            {"label": t.label, **asdict(t.file), "spans": t.spans, "blinks": t.blinks,
             "size": round(t.size, 4), "scale": [round(s, 4) for s in t.scale],
             "path": t.path.kind, "shape": t.shape}
            for t in scene.things
        ],
        "sounds": [
            {"label": s.label, **asdict(s.file), "spans": s.spans, "snr": round(s.snr, 2),
             "level": round(scene.bed[1] + s.snr, 2)}
            for s in scene.sounds
        ],
        "rivals": [{"sound": a, "thing": b} for a, b in scene.rivals],
        "background": {"kind": scene.ground[0], **asdict(scene.ground[1])},
        "noise": {"kind": scene.bed[0], "level": round(scene.bed[1], 2)},
        "folders": dict(roots),
    }  # fmt: skip
