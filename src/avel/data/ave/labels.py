"""AVE's labels, derived from its annotations and compared with every label file that is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.data.ave.files import SECONDS, AveRow, class_order, find, read_small
from avel.errors import DataError

Floats = NDArray[np.float32]


def second_labels(rows: Sequence[AveRow], seconds: int = SECONDS) -> NDArray[np.int64]:
    """(N, T) class ids of each second: the category inside [start, end), elsewhere background."""
    classes = class_order(rows)
    ids = {name: i for i, name in enumerate(classes)}
    labels = np.full((len(rows), seconds), len(classes), np.int64)
    for i, row in enumerate(rows):
        if row.end > row.start:
            inside = clock.event_labels(row.start, row.end, seconds)
            labels[i, np.array(inside)] = ids[row.category]
    return labels


def video_tags(rows: Sequence[AveRow]) -> Floats:
    """(N, C+1) one-hot categories, of an empty event's row too, as mil_labels.h5 has them."""
    classes = class_order(rows)
    ids = np.array([classes.index(row.category) for row in rows])
    return _one_hot(ids, len(classes) + 1)


def _one_hot(ids: NDArray[np.int64], count: int) -> Floats:
    hot: Floats = (ids[..., None] == np.arange(count)).astype(np.float32)
    return hot


def event_seconds(rows: Sequence[AveRow]) -> Floats:
    """(N, 10) 1 inside the event: labels_closs.h5."""
    inside: Floats = (second_labels(rows) != len(class_order(rows))).astype(np.float32)
    return inside


def one_hot_seconds(rows: Sequence[AveRow]) -> Floats:
    """(N, 10, C+1): labels.h5 and right_labels.h5."""
    return _one_hot(second_labels(rows), len(class_order(rows)) + 1)


def proportions(rows: Sequence[AveRow]) -> Floats:
    """(N, C+1) share of the seconds that each class has: PSP's prob_label.h5."""
    share: Floats = one_hot_seconds(rows).mean(axis=1)
    return share


#: Label files and what they are derived by.
LABEL_FILES: dict[str, Callable[[Sequence[AveRow]], Floats]] = {
    "labels.h5": one_hot_seconds,
    "right_labels.h5": one_hot_seconds,
    "mil_labels.h5": video_tags,
    "labels_closs.h5": event_seconds,
    "prob_label.h5": proportions,
}


@dataclass(frozen=True)
class Comparison:
    """What a label file has against the annotations.

    Args:
        name: The file.
        different: Annotation rows in which they differ, or None where it can't be compared.
        rows: How many were compared.
        problem: Why it can't be compared.
    """

    name: str
    different: NDArray[np.int64] | None
    rows: int
    problem: str = ""

    def __str__(self) -> str:
        if self.different is None:
            return f"{self.name}: {self.problem}"
        count = len(self.different)
        first = f" (the first is row {self.different[0]})" if count else ""
        return f"{self.name}: {count} of {self.rows} rows differ from the annotations{first}"


def compare_labels(root: str | Path, rows: Sequence[AveRow]) -> list[Comparison]:
    """Every label file of a folder against the labels derived from its annotations."""
    comparisons = []
    for name, derive in LABEL_FILES.items():
        path = find(root, name)
        if path:
            comparisons.append(_compare(path, derive(rows)))
    return comparisons


def _compare(path: Path, derived: Floats) -> Comparison:
    try:
        stored: NDArray[Any] = read_small(path)
    except DataError as e:
        return Comparison(path.name, None, 0, e.got)
    if stored.shape != derived.shape:
        problem = f"shape {stored.shape}, the annotations give {derived.shape}"
        return Comparison(path.name, None, 0, problem)
    different = ~(np.abs(stored.astype(np.float64) - derived) < 1e-4)  # a NaN differs too
    return Comparison(
        path.name, np.flatnonzero(different.reshape(len(different), -1).any(1)), len(different)
    )
