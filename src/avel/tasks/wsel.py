"""WSEL, weakly supervised event localization: trained on what a clip holds, judged as SEL.

Three settings that can't be compared with one another: ``tag`` (the categories of a clip, and the
background clips of the release beside the training clips), ``tag-clean`` (without those clips) and
``proportion`` (the share of the clip's segments that each class takes: more than a tag).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Split
from avel.errors import DataError
from avel.tasks.sel import SELECTION, details, score, trivial

__all__ = ["SELECTION", "Joined", "add_tags", "details", "join", "score", "trivial"]


def add_tags(split: Split, classes: int, *, proportion: bool = False) -> Split:
    """The split with its ``tags`` (N, C+1).

    A tag is 1 for every event class of the clip, or for background where it holds none; tags that
    the split brings with it are kept. With ``proportion`` they are always the shares of segments.
    """
    if split.tags is not None and not proportion:
        return split
    counts = np.stack([(split.labels == c).sum(1) for c in range(classes + 1)], 1)
    if proportion:
        shares = counts / np.maximum(1, split.lengths)[:, None]
        return replace(split, tags=shares.astype(np.float32))
    held = counts > 0
    held[:, classes] = ~held[:, :classes].any(1)
    return replace(split, tags=held.astype(np.float32))


class Joined:
    """Two feature arrays one after the other, joined only where rows are asked for.

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


def join(split: Split, background: Split) -> Split:
    """The clips of a split and after them the background clips, no feature copied.

    Both must carry tags.

    Raises:
        DataError: if their features or lengths are of different shapes.
    """
    for sense in ("audio", "visual"):
        ours, theirs = getattr(split, sense).shape[1:], getattr(background, sense).shape[1:]
        if ours != theirs:
            raise DataError(
                f"background clips with {sense} features of shape {theirs}",
                wanted=f"{ours}, as the training clips have",
                do="extract both with the same backbones, or train with setting=tag-clean",
            )
    mine, other = _rows(split), _rows(background)
    arrays: dict[str, Any] = {"audio": split.audio, "visual": split.visual}
    if split.audio is not background.audio or split.visual is not background.visual:
        other = other + len(split.audio)
        arrays = {s: Joined(getattr(split, s), getattr(background, s)) for s in arrays}
    assert split.tags is not None and background.tags is not None
    return replace(
        split,
        ids=(*split.ids, *background.ids),
        lengths=np.concatenate([split.lengths, background.lengths]),
        labels=np.concatenate([split.labels, background.labels]),
        tags=np.concatenate([split.tags, background.tags]),
        rows=np.concatenate([mine, other]),
        **arrays,
    )


def _rows(split: Split) -> NDArray[np.int64]:
    return np.arange(len(split)) if split.rows is None else split.rows
