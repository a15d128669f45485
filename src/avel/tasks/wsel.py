"""WSEL, weakly supervised event localization: trained on what a clip holds, judged as SEL.

Three settings that can't be compared with one another: ``tag`` (the categories of a clip, and the
background clips of the release beside the training clips), ``tag-clean`` (without those clips) and
``proportion`` (the share of the clip's segments that each class takes: more than a tag).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avel.data.base import Split
from avel.data.concat import after
from avel.errors import DataError
from avel.tasks.sel import details, score, trivial

__all__ = ["add_tags", "details", "join", "score", "trivial"]


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


def join(split: Split, background: Split) -> Split:
    """The clips of a split and after them the background clips, no feature copied.

    Both must carry tags.

    Raises:
        DataError: if their features or lengths are of different shapes.
    """
    for modality in ("audio", "visual"):
        ours, theirs = getattr(split, modality).shape[1:], getattr(background, modality).shape[1:]
        if ours != theirs:
            raise DataError(
                f"background clips with {modality} features of shape {theirs}",
                expected=f"{ours}, as the training clips have",
                hint="extract both with the same backbones, or train with setting=tag-clean",
            )
    assert split.tags is not None and background.tags is not None
    return after(split, background)
