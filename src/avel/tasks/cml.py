"""CML, cross-modality localization: find the other modality's window that belongs to the query's.

The query is an event's l segments in one modality, so l is known; the candidates are all windows of l
segments of the other. A2V is an audio query that the picture answers, V2A the other way round. A
window counts as right where it starts exactly with the event (``window``); ``second`` is the same
with every single event segment as the query among T candidates. A trained model's distances and
matching scores alike come as costs, the lowest best; ties go to the earliest window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Split
from avel.errors import DataError
from avel.metrics import best_windows, event_runs, window_overlap
from avel.models.base import Query

Modality = Literal["audio", "visual"]
MODALITIES: tuple[tuple[str, Modality], ...] = (("a2v", "audio"), ("v2a", "visual"))

#: ``costs(split, clips, query)`` -> (n, windows): the cost of every window for clips of one length
#: that share a query. ``clips`` are positions in the split, not rows of its store; segments beyond
#: the clips' length must not be read.
Costs = Callable[[Split, NDArray[np.int64], Query], NDArray[Any]]


@dataclass(frozen=True)
class Usable:
    """The clips of a split that CML can use: one event each, shorter than the clip.

    Args:
        clip: (n,) positions in the split.
        start, length, count: (n,) the event's first segment and length, the clip's length.
        label: (n,) the event's class.
    """

    clip: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    count: NDArray[np.int64]
    label: NDArray[np.int64]


def usable(split: Split, classes: int) -> Usable:
    """The clips of a split with exactly one event, shorter than the clip."""
    runs = event_runs(split.labels, classes)
    single = np.bincount(runs.clip, minlength=len(split))[runs.clip] == 1
    keep = single & (runs.length < split.lengths[runs.clip])
    clip = runs.clip[keep].astype(np.int64)
    return Usable(
        clip, runs.start[keep], runs.length[keep], split.lengths[clip], runs.label[keep]
    )  # fmt: skip


def keep_usable(split: Split, classes: int) -> Split:
    """The split without the clips that CML can't use."""
    keep = usable(split, classes).clip
    rows = np.arange(len(split)) if split.rows is None else split.rows
    return replace(
        split,
        ids=tuple(split.ids[i] for i in keep),
        lengths=split.lengths[keep],
        labels=split.labels[keep],
        tags=None if split.tags is None else split.tags[keep],
        rows=rows[keep],
    )


def evaluate(
    costs: Costs, split: Split, classes: int, *, full: bool = True
) -> dict[str, float]:  # fmt: skip
    """Every metric of a matcher by name, shares in [0, 1].

    Args:
        costs: The matcher.
        split: Clips that CML can't use are left out.
        classes: C.
        full: False for the windows alone, without ``second``: what training needs.

    Returns:
        ``a2v``, ``v2a``, ``mean_accuracy`` (windows); ``a2v_overlap``, ``v2a_overlap``,
        ``overlap`` (mean IoU of the chosen window); ``a2v_second``, ``v2a_second``, ``second``.

    Raises:
        DataError: if no clip of the split can be used.
    """
    cases = usable(split, classes)
    if not len(cases.clip):
        raise DataError(
            f"split {split.name!r} holds no clip for cml",
            expected="clips with one event that is shorter than the clip",
            hint="judge on a split that has such clips",
        )
    found: dict[str, float] = {}
    for way, modality in MODALITIES:
        chosen = choose(costs, split, cases, modality)
        found[way] = float((chosen == cases.start).mean())
        found[f"{way}_overlap"] = float(window_overlap(chosen, cases.start, cases.length).mean())
    found["mean_accuracy"] = (found["a2v"] + found["v2a"]) / 2
    found["overlap"] = (found["a2v_overlap"] + found["v2a_overlap"]) / 2
    if full:
        single = segments(cases)
        for way, modality in MODALITIES:
            right = choose(costs, split, single, modality) == single.start
            found[f"{way}_second"] = float(right.mean())
        found["second"] = (found["a2v_second"] + found["v2a_second"]) / 2
    return found


def choose(costs: Costs, split: Split, cases: Usable, modality: Modality) -> NDArray[np.int64]:
    """(n,) the start of the window chosen in each case."""
    chosen = np.empty(len(cases.clip), np.int64)
    for members, query in _queries(cases, modality):
        found = costs(split, cases.clip[members], query)
        windows = int(cases.count[members[0]]) - query.length + 1
        if found.shape != (len(members), windows):
            raise ValueError(f"costs of shape {found.shape}: expected {(len(members), windows)}")
        chosen[members] = best_windows(found)
    return chosen


def _queries(cases: Usable, modality: Modality) -> Iterator[tuple[NDArray[np.int64], Query]]:
    keys = np.stack([cases.start, cases.length, cases.count], 1)
    kinds, kind = np.unique(keys, axis=0, return_inverse=True)
    for i, (start, length, _) in enumerate(kinds.tolist()):
        yield np.nonzero(kind.ravel() == i)[0], Query(modality, start, length)


def segments(cases: Usable) -> Usable:
    """Each event segment as a case of its own, one segment long (xue2021's wording)."""
    which = np.repeat(np.arange(len(cases.clip)), cases.length)
    first = np.repeat(cases.length.cumsum() - cases.length, cases.length)
    start = cases.start[which] + np.arange(len(which)) - first
    return Usable(
        cases.clip[which], start, np.ones_like(start), cases.count[which], cases.label[which]
    )


def details(costs: Costs, split: Split, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Window accuracy of each event class both ways, and its number of clips."""
    cases = usable(split, len(classes))
    right = {
        way: choose(costs, split, cases, modality) == cases.start for way, modality in MODALITIES
    }
    table: dict[str, dict[str, float]] = {}
    for i, name in enumerate(classes):
        mine = cases.label == i
        clips = int(mine.sum())
        rows = {way: float(right[way][mine].mean()) if clips else float("nan") for way in right}
        table[name] = {**rows, "clips": clips}
    return table


def trivial(split: Split, classes: int) -> dict[str, float]:
    """Window accuracy of answers that look at nothing, the same both ways.

    On AVE's test (PROTOCOL): ``last_window`` 46.77, ``first_window`` 35.32, ``random_window``
    20.77 (its expectation).
    """
    cases = usable(split, classes)
    spare = cases.count - cases.length
    return {
        "last_window": float((cases.start == spare).mean()),
        "first_window": float((cases.start == 0).mean()),
        "random_window": float((1 / (spare + 1)).mean()),
    }
