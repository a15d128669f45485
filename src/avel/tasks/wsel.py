"""WSEL, weakly supervised event localization: trained on the tags of clips, evaluated as SEL.

Three settings that can't be compared with one another: ``tag`` (the categories of a clip, and the
background clips of the release beside the training clips), ``tag-clean`` (without those clips) and
``proportion`` (the share of the clip's segments that each class takes: more than a tag).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from avel.data.base import Dataset, Split
from avel.data.concat import after
from avel.errors import DataError
from avel.models.base import TaskName
from avel.tasks.sel import SEL


class WSEL(SEL):
    """Weakly supervised event localization."""

    name: ClassVar[TaskName] = "wsel"
    summary = "from video tags alone"
    settings = ("tag", "tag-clean", "proportion")
    #: As the papers select it; ``selection=tag_loss`` of the recipe reads tags alone.
    selection_note = "by the classes of its segments"

    def _prepared(
        self, split: Split, setting: str, background: Split | None, classes: int
    ) -> Split:  # fmt: skip
        """The split with tags, and in the setting ``tag`` the background clips after its own."""
        split = add_tags(split, classes, proportion=setting == "proportion")
        if setting == "tag" and background is not None:
            return join(split, add_tags(background, classes))
        return split

    def background_clips(self, dataset: Dataset, train: Split) -> int | None:
        """How many of the data set's background clips are trained on."""
        background = dataset.splits.get("background")
        return len(set(train.ids) & set(background.ids)) if background else 0


def add_tags(split: Split, classes: int, *, proportion: bool = False) -> Split:
    """The split with its ``tags`` (N, C+1).

    A tag is 1 for every event class of the clip, or for background where it has none; tags that
    the split brings with it stay. With ``proportion`` they are always the shares of segments.
    """
    if split.tags is not None and not proportion:
        return split
    counts = np.stack([(split.labels == c).sum(1) for c in range(classes + 1)], 1)
    if proportion:
        shares = counts / np.maximum(1, split.lengths)[:, None]
        return replace(split, tags=shares.astype(np.float32))
    present = counts > 0
    present[:, classes] = ~present[:, :classes].any(1)
    return replace(split, tags=present.astype(np.float32))


def join(split: Split, background: Split) -> Split:
    """The clips of a split and after them the background clips, no feature copied.

    Both must have tags.

    Raises:
        DataError: if their features or lengths are of different shapes.
    """
    for modality in ("audio", "visual"):
        ours, theirs = getattr(split, modality).shape[1:], getattr(background, modality).shape[1:]
        if ours != theirs:
            raise DataError(
                f"the background clips have {modality} features of shape {theirs}",
                expected=f"{ours}, as the training clips have",
                hint="extract both with the same backbones, or train with setting=tag-clean",
            )
    assert split.tags is not None and background.tags is not None
    return after(split, background)
