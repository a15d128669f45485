"""What a run answered to the clips of a split: what matrices and timelines are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.errors import DataError, UsageError
from avel.metrics import Ints

if TYPE_CHECKING:
    from avel.data.base import Dataset
    from avel.inference.checkpoint import Trained


@dataclass(frozen=True)
class Judged:
    """Answered and true class ids of N clips.

    Args:
        labels: (N, T) answered ids 0..C, C for background; anything beyond a clip's length.
        truth: (N, T) true ids, -1 beyond a clip's length.
        classes: The C event names, without background.
        ids: Names of the clips; their numbers where not given.
        name: What answered, for titles.
        data: What it was judged on, for titles.
        simulated: True where the features are simulated; every title then says so.
        step: Seconds a segment.

    Raises:
        DataError: if shapes or ids don't fit.
    """

    labels: Ints
    truth: Ints
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    name: str = ""
    data: str = ""
    simulated: bool = False
    step: float = 1.0

    def __post_init__(self) -> None:
        c = len(self.classes)
        if self.truth.ndim != 2 or self.labels.shape != self.truth.shape:
            raise DataError(
                f"labels of shape {self.labels.shape}, truth of {self.truth.shape}",
                expected="(N, T) both",
            )
        held = self.labels[self.truth >= 0]
        if not held.size or held.min() < 0 or held.max() > c or self.truth.max() > c:
            raise DataError(
                "no segment, or class ids out of range", expected=f"0 to {c}, {c} for background"
            )
        if self.ids and len(self.ids) != len(self.truth):
            raise DataError(
                f"{len(self.ids)} ids for {len(self.truth)} clips", expected="one a clip"
            )

    @property
    def background(self) -> int:
        """The background's class id, C."""
        return len(self.classes)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(C+1, C+1) segments by true (row) and answered (column) class."""
        return metrics.confusion(self.labels, self.truth, len(self.classes))

    @property
    def accuracy(self) -> float:
        """Share of right segments, background counted like any class."""
        return metrics.segment_accuracy(self.labels, self.truth)

    def find(self, clip: str | int) -> int:
        """The position of a clip, from its name, a unique part of its name, or its position.

        Raises:
            UsageError: if none or several bear it.
        """
        return find_clip(self.ids or tuple(str(i) for i in range(len(self.truth))), clip)


def find_clip(ids: Sequence[str], clip: str | int) -> int:
    """The position of a clip, from its name, a unique part of its name, or its position.

    Raises:
        UsageError: if none or several bear it.
    """
    if isinstance(clip, int):
        if not 0 <= clip < len(ids):
            raise UsageError(f"clip {clip}", expected=f"0 to {len(ids) - 1}")
        return clip
    found = [i for i, name in enumerate(ids) if name == clip]
    found = found or [i for i, name in enumerate(ids) if clip in name]
    if len(found) != 1:
        some = ", ".join(ids[i] for i in (found or range(len(ids)))[:5])
        raise UsageError(
            f"{len(found) or 'no'} clips whose name holds {clip!r}",
            expected=f"one of the {len(ids)} clips: {some}…",
            hint="give more of the name",
        )
    return found[0]


def spread_clips(ids: Sequence[str], count: int) -> list[str]:
    """So many clips, spread evenly over all, where nobody has named one.

    >>> spread_clips(["a", "b", "c", "d", "e", "f"], 3), spread_clips(["a"], 3)
    (['a', 'c', 'e'], ['a'])
    """
    count = min(count, len(ids))
    return [ids[i * len(ids) // count] for i in range(count)]


def judge(
    run: Trained | str | Path, data: Dataset, *, split: str | None = None, batch: int = 64
) -> Judged:
    """What a run answers to a split, in float32.

    Args:
        run: A loaded model or its folder, of task sel or wsel.
        data: A data set with the run's classes and backbones.
        split: The test split if None.
        batch: Clips that go through the network together.

    Raises:
        UsageError: for a run of cml, which names no classes.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    from avel.evaluation.inputs import choose_split, fitting
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_model
    from avel.training.batches import predictor, resident

    trained = run if isinstance(run, Trained) else load_model(run)
    task = trained.card["task"]
    if task == "cml":
        raise UsageError(
            "a run of cml names no classes",
            expected="a run of sel or wsel",
            hint="name another run",
        )
    data = fitting(trained, data)
    chosen = choose_split(data, task, split, len(trained.classes))
    labels, _ = predictor(trained.network, resident(chosen), task, batch=batch)(chosen)
    return Judged(
        labels=labels,
        truth=chosen.labels,
        classes=trained.classes,
        ids=chosen.ids,
        name=display_name(trained),
        data=f"{data.name}, {chosen.name}",
        simulated=data.simulated or bool(trained.card["data"].get("simulated")),
        step=data.step,
    )


def display_name(run: Trained) -> str:
    """The model, its task where that isn't sel, and the options that aren't its defaults."""
    from avel.models.base import models

    card = run.card
    defaults = models.get(card["model"]).options() if card["options"] else {}
    changed = [f"{k}={v}" for k, v in card["options"].items() if defaults.get(k) != v]
    task = [] if card["task"] == "sel" else [card["task"]]
    return " ".join([card["model"], *task, *changed])


def as_list(judged: Judged | Sequence[Judged]) -> list[Judged]:
    """One or several seeds of one run, which must have answered to the same clips.

    Raises:
        UsageError: if there is none, or they were judged on different clips.
    """
    listed = [judged] if isinstance(judged, Judged) else list(judged)
    if not listed:
        raise UsageError("nothing was judged", hint="give at least one run")
    for other in listed[1:]:
        same_clips(listed[0], other)
    return listed


def same_clips(a: Judged, b: Judged) -> None:
    """Refuse two that were judged on different clips or classes."""
    same = a.truth.shape == b.truth.shape and a.classes == b.classes and a.ids == b.ids
    if not same or not np.array_equal(a.truth, b.truth):
        raise UsageError(
            f"{a.name or 'one'} and {b.name or 'another'} were judged on different clips",
            expected="the same split and classes",
            hint="judge both on the same data",
        )
