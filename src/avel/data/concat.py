"""Several data sets as one: their clips side by side, over all their classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.backbones.identity import backbone_identity
from avel.data.base import Copy, Dataset, Split
from avel.errors import DataError, UsageError


class Joined:
    """Two feature arrays one after the other, joined only where rows are read.

    Args:
        first, second: Arrays or memory maps whose rows have one shape.
    """

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self.first, self.second = first, second
        self.shape: tuple[int, ...] = (len(first) + len(second), *first.shape[1:])
        self.dtype, self.ndim = first.dtype, first.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        rows = np.asarray(np.arange(len(self))[rows])  # slices, masks, negative ones alike
        later = rows >= len(self.first)
        if rows.ndim == 0:
            return np.asarray(self.second[rows - len(self.first)] if later else self.first[rows])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        out[~later] = self.first[rows[~later]]
        out[later] = self.second[rows[later] - len(self.first)]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def join(datasets: Sequence[Dataset], *, union: bool = False) -> Dataset:
    """One data set of several, no feature copied.

    Each split holds the clips of those of its name, in the order of the data sets; names of clips
    get that of their data set in front (``toybox/videos/s1_000000.mp4``). Classes are all classes
    in the order in which they come; those of one name are one. Tags are left out: they are made
    from the labels again.

    Args:
        datasets: One or more, of the same backbones, segment length and, unless ``union``, clip
            length.
        union: Whether splits that not every data set has are taken too; otherwise they are left
            out. Shorter clips are then padded.

    Raises:
        UsageError: if there is none.
        DataError: with all that doesn't fit.
    """
    if not datasets:
        raise UsageError("no data set to join", hint="name at least one")
    first = datasets[0]
    mistakes = [
        difference for other in datasets[1:] for difference in _odd(other, first, any_length=union)
    ]
    names = [d.name for d in datasets]
    mistakes += [f"two are called {n}" for n in dict.fromkeys(names) if names.count(n) > 1]
    if mistakes:
        raise DataError("data sets that can't be joined: " + "; ".join(mistakes),
                        expected=f"the backbones and lengths of {first.name}, other names",
                        hint="extract them with the same backbones and step")  # fmt: skip
    classes = tuple(dict.fromkeys(c for d in datasets for c in d.classes))
    origins = [d.origin for d in datasets]
    every = dict.fromkeys(s for d in datasets for s in d.splits)
    common = [s for s in every if union or all(s in d.splits for d in datasets)]
    named = [_named(d, classes) for d in datasets]
    parts = {s: [d.splits[s] for d in named if s in d.splits] for s in common}
    if union:
        parts = {s: _padded(of_split) for s, of_split in parts.items()}
    return replace(
        first, name="+".join(names), classes=classes,
        splits={s: reduce(after, of_split) for s, of_split in parts.items()},
        drawn=all(d.drawn for d in datasets),
        recordings={f"{d.name}/{clip}": f"{d.name}/{recording}"
                    for d in datasets for clip, recording in d.recordings.items()},
        origin=first.origin if len(datasets) == 1 else _one_origin(origins),
        simulated=any(d.simulated for d in datasets),
        note="; ".join(f"{d.name}: {d.note}" if d.note else d.name for d in datasets),
        notes=tuple(f"{d.name}: {n}" for d in datasets for n in d.notes),
    )  # fmt: skip


def _padded(splits: Sequence[Split]) -> list[Split]:
    """Splits whose clips are padded with zeros (labels with -1) to the longest of all."""
    length = max(int(s.labels.shape[1]) for s in splits)
    return [s if s.labels.shape[1] == length else _pad(s, length) for s in splits]


def _pad(split: Split, length: int) -> Split:
    room = length - int(split.labels.shape[1])

    def padded(array: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        pads = [(0, 0), (0, room), *[(0, 0)] * (array.ndim - 2)]
        return np.pad(np.asarray(array[split.store_rows]), pads, constant_values=fill)

    labels = np.pad(split.labels, ((0, 0), (0, room)), constant_values=-1)
    copies = tuple(Copy(*map(padded, copy)) for copy in split.copies)
    return replace(split, audio=padded(split.audio), visual=padded(split.visual), labels=labels,
                   rows=None, copies=copies)  # fmt: skip


def _one_origin(origins: Sequence[str]) -> str:
    return hashlib.sha256("+".join(origins).encode()).hexdigest() if any(origins) else ""


def relabel(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same clips over other classes, the data set's own among them; tags are left out.

    Raises:
        DataError: with the data set's classes that aren't among them.
    """
    lacking = [c for c in data.classes if c not in classes]
    if lacking:
        raise DataError(f"{data.name} over classes without {', '.join(lacking[:5])}",
                        expected="all of its own among them", hint="name those too")  # fmt: skip
    ids = np.array([*(classes.index(c) for c in data.classes), len(classes), -1])  # -1: the last
    splits = {
        name: replace(split, labels=ids[split.labels], tags=None)
        for name, split in data.splits.items()
    }
    return replace(data, classes=classes, splits=splits)


def _named(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Over all classes, with the data set's name in front of its clips' names."""
    relabelled = relabel(data, classes)
    splits = {
        name: replace(split, ids=tuple(f"{data.name}/{clip}" for clip in split.ids))
        for name, split in relabelled.splits.items()
    }
    return replace(relabelled, splits=splits)


def _odd(other: Dataset, first: Dataset, *, any_length: bool) -> list[str]:
    """What of a data set differs from the first."""
    cards = zip((other.audio_card, other.visual_card), (first.audio_card, first.visual_card),
                strict=True)  # fmt: skip
    differences = []
    if any(backbone_identity(a) != backbone_identity(b) for a, b in cards):
        differences.append("features of other backbones")
    if other.step != first.step:
        differences.append(f"segments of {other.step:g} s")
    for name in first.splits.keys() & other.splits.keys():
        ours, theirs = first.splits[name], other.splits[name]
        skipped = 2 if any_length else 1
        if any(getattr(ours, a).shape[skipped:] != getattr(theirs, a).shape[skipped:]
               for a in ("audio", "visual")):  # fmt: skip
            differences.append(f"{name} of shape {theirs.visual.shape[1:]}")
    return [f"{other.name} has {what}" for what in differences]


def after(first: Split, second: Split) -> Split:
    """The clips of one split, then those of another, no feature copied; tags where both have any.

    Of the altered copies there are as many as both have.

    Args:
        first, second: Of features of one shape.
    """
    rows, later = first.store_rows, second.store_rows
    arrays: dict[str, Any] = {"audio": first.audio, "visual": first.visual}
    if first.audio is not second.audio or first.visual is not second.visual:
        later = later + len(first.audio)
        arrays = {s: Joined(getattr(first, s), getattr(second, s)) for s in arrays}
        arrays["copies"] = tuple(
            Copy(*(Joined(a, b) for a, b in zip(*both, strict=True)))  # type: ignore[arg-type]
            for both in zip(first.copies, second.copies, strict=False)
        )
    tags = None
    if first.tags is not None and second.tags is not None:
        tags = np.concatenate([first.tags, second.tags])
    return replace(
        first, ids=(*first.ids, *second.ids), tags=tags,
        lengths=np.concatenate([first.lengths, second.lengths]),
        labels=np.concatenate([first.labels, second.labels]),
        rows=np.concatenate([rows, later]), **arrays,
    )  # fmt: skip
