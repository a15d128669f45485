"""Real clips with hand-made truth: reading them, and how well timelines fit the truth.

A folder holds ``clips/`` and ``truth.csv`` (``file,start,end,label``, seconds); clips without a row
hold none of the listed events.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from avel.types import Event, Features, Grid, Scores

#: What a decision is chosen by: segment F1, minus a part of the share of clips without events in
#: which one is found.
FALSE_WEIGHT = 0.15
#: Segments whose mean score tags a clip: its highest.
HIGHEST = 3


@dataclass(frozen=True)
class Clip:
    """A clip: its name, its features, its true events (none: it holds none of the listed)."""

    name: str
    features: Features
    truth: tuple[Event, ...]


def read_truth(folder: Path) -> dict[str, tuple[Event, ...]]:
    """The true events by file name."""
    rows: dict[str, list[Event]] = {}
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            event = Event(float(row["start"]), float(row["end"]), row["label"])
            rows.setdefault(row["file"], []).append(event)
    return {name: tuple(sorted(events)) for name, events in rows.items()}


def clip_files(folder: Path) -> list[Path]:
    """The clips in order of their names."""
    return sorted(p for p in (folder / "clips").iterdir() if p.is_file())


def read_clips(folder: Path) -> tuple[list[Clip], list[str]]:
    """Every clip with its features by the default's backbones, and the labels of the truth."""
    from avel.features.cache import features_of
    from avel.features.extractor import Extractor
    from avel.inference.named_events import TAGGERS

    truth = read_truth(folder)
    make = Extractor(**TAGGERS)
    clips = [
        Clip(p.name, features_of(p, make)[0].gather(), truth.get(p.name, ()))
        for p in clip_files(folder)
    ]
    return clips, sorted({e.label for events in truth.values() for e in events})


def in_segments(events: Iterable[Event], labels: Sequence[str], grid: Grid) -> np.ndarray:
    """(T, C) True where an event covers at least half of a segment."""
    table = np.zeros((len(grid), len(labels)))
    for event in events:
        for i in range(len(grid)):
            start, end = grid.bounds(i)
            shared = min(event.end, end) - max(event.start, start)
            if shared > 0 and event.label in labels:
                table[i, labels.index(event.label)] += shared / (end - start)
    return np.asarray(table >= 0.5 - 1e-9)


def matches(found: Sequence[Event], truth: Sequence[Event], iou: float) -> int:
    """How many events are found, by label, each matched once, at this intersection over union."""
    total = 0
    for label in {e.label for e in truth}:
        pairs = [
            [_iou(f, t) >= iou for t in truth if t.label == label]
            for f in found
            if f.label == label
        ]
        if pairs:
            right = np.array(pairs, dtype=float)
            total += int(right[linear_sum_assignment(-right)].sum())
    return total


def _iou(a: Event, b: Event) -> float:
    shared = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (max(a.end, b.end) - min(a.start, b.start))


@dataclass
class Counts:
    """What is summed over clips."""

    right: int = 0
    found: int = 0
    true: int = 0

    def add(self, right: float, found: float, true: float) -> None:
        self.right += int(right)
        self.found += int(found)
        self.true += int(true)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, self.found + self.true)


def tag(scores: Scores) -> str:
    """The label of a clip: the one whose three highest segments score the highest in the mean."""
    values = np.sort(scores.values[:, :-1], axis=0)[-HIGHEST:]
    return scores.classes[int(values.mean(0).argmax())]


def judge(
    found: Mapping[str, Sequence[Event]],
    scores: Mapping[str, Scores],
    clips: Sequence[Clip],
    labels: Sequence[str],
) -> dict[str, float]:
    """How events and scores fit the truth.

    Returns:
        ``tags``: clips with events that are tagged with a true label, see :func:`tag`, and
        ``clips`` how many those are; ``detected``: those whose highest-scored event bears one;
        ``false``: clips without events in which one is found, of ``others``;
        ``segment_f1`` (segments of a second, micro), ``event_f1_30`` and ``event_f1_50``.
    """
    segments, loose, strict = Counts(), Counts(), Counts()
    tags = detected = false = 0
    for clip in clips:
        events = [e for e in found[clip.name] if e.label in labels]
        said, true = (in_segments(x, labels, clip.features.grid) for x in (events, clip.truth))
        segments.add((said & true).sum(), said.sum(), true.sum())
        for counts, iou in ((loose, 0.3), (strict, 0.5)):
            counts.add(matches(events, clip.truth, iou), len(events), len(clip.truth))
        best = max(events, key=lambda e: e.score, default=None)
        if clip.truth:
            true_labels = {e.label for e in clip.truth}
            tags += tag(scores[clip.name]) in true_labels
            detected += best is not None and best.label in true_labels
        else:
            false += best is not None
    with_events = sum(bool(c.truth) for c in clips)
    return {
        "tags": tags, "detected": detected, "clips": with_events, "false": false,
        "others": len(clips) - with_events,
        "segment_f1": segments.f1, "event_f1_30": loose.f1, "event_f1_50": strict.f1,
    }  # fmt: skip


def worth(result: Mapping[str, float]) -> float:
    """By what a decision is chosen; see :data:`FALSE_WEIGHT`."""
    return result["segment_f1"] - FALSE_WEIGHT * result["false"] / max(1, result["others"])
