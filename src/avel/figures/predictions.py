"""The class ids that a run predicts for a split: the data of matrices and timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.errors import DataError, UsageError
from avel.metrics import Ints

if TYPE_CHECKING:
    from avel.data.base import Dataset, Split
    from avel.inference.checkpoint import Trained


@dataclass(frozen=True)
class Predictions:
    """Predicted and true class ids of N clips.

    Args:
        labels: (N, T) predicted ids 0..C, C for background; anything beyond a clip's length.
        truth: (N, T) true ids, -1 beyond a clip's length.
        classes: The C event names, without background.
        ids: Names of the clips; their numbers where not given.
        name: Of the model, for titles.
        data: Name of the data set and split, for titles.
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
        inside = self.labels[self.truth >= 0]
        if not inside.size or inside.min() < 0 or inside.max() > c or self.truth.max() > c:
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
        """(C+1, C+1) segments by true (row) and predicted (column) class."""
        return metrics.confusion(self.labels, self.truth, len(self.classes))

    @property
    def accuracy(self) -> float:
        """Share of right segments; background counts like any class."""
        return metrics.segment_accuracy(self.labels, self.truth)

    def find(self, clip: str | int) -> int:
        """The position of a clip, from its name, a unique part of its name, or its position.

        Raises:
            UsageError: if no clip or several clips match.
        """
        return clip_index(self.ids or tuple(str(i) for i in range(len(self.truth))), clip)


def clip_index(ids: Sequence[str], clip: str | int) -> int:
    """The position of a clip, from its name, a unique part of its name, or its position.

    Raises:
        UsageError: if no clip or several clips match.
    """
    if isinstance(clip, int):
        if not 0 <= clip < len(ids):
            raise UsageError(f"clip must be from 0 to {len(ids) - 1}, got {clip}")
        return clip
    matches = [i for i, name in enumerate(ids) if name == clip]
    matches = matches or [i for i, name in enumerate(ids) if clip in name]
    if len(matches) != 1:
        some = ", ".join(ids[i] for i in (matches or range(len(ids)))[:5])
        raise UsageError(
            f"{clip!r} is in the names of {len(matches) or 'no'} clips",
            expected=f"one of the {len(ids)} clips: {some}…",
            hint="give a longer part of the name",
        )
    return matches[0]


def spread_clips(ids: Sequence[str], count: int) -> list[str]:
    """``count`` clips, spread evenly over all.

    >>> spread_clips(["a", "b", "c", "d", "e", "f"], 3), spread_clips(["a"], 3)
    (['a', 'c', 'e'], ['a'])
    """
    count = min(count, len(ids))
    return [ids[i * len(ids) // count] for i in range(count)]


def predict_split(
    run: Trained | str | Path, data: Dataset, *, split: str | None = None
) -> Predictions:
    """The classes that a run predicts for a split, in float32.

    Args:
        run: A loaded model or its folder, of task sel or wsel.
        data: A data set with the run's classes and backbones.
        split: The test split if None.

    Raises:
        UsageError: for a run of cml, which names no classes.
        CheckpointError: if the features are of other backbones than the run was trained on.
        DataError: if the data lack the split or have other classes.
    """
    from avel.data.resident import resident
    from avel.tasks import task_named

    trained = loaded_run(run)
    task = task_named(trained.card["task"])
    if not task.classifies:
        raise UsageError(
            f"a run of {task.name} predicts windows, not classes", expected="a run of sel or wsel"
        )
    chosen, titles = run_split(trained, data, split)
    labels, _ = task.predictor(trained.network, resident(chosen))(chosen)
    return Predictions(
        labels=labels,
        truth=chosen.labels,
        classes=trained.classes,
        ids=chosen.ids,
        step=data.step,
        **titles,
    )


def loaded_run(run: Trained | str | Path) -> Trained:
    """A loaded model, from itself or its folder or name."""
    from avel.inference.checkpoint import Trained
    from avel.inference.load import load_trained

    return run if isinstance(run, Trained) else load_trained(run)


def run_split(trained: Trained, data: Dataset, split: str | None) -> tuple[Split, dict[str, Any]]:
    """The split that a run is drawn for, and the fields of a figure's data for its titles.

    Args:
        trained: The run.
        data: A data set with its classes and backbones.
        split: The task's test split if None.

    Returns:
        The split with the run's classes; ``name``, ``data`` and ``simulated``.
    """
    from avel.evaluation.inputs import align_classes, choose_split

    aligned = align_classes(trained, data)
    chosen = choose_split(aligned, trained.card["task"], split, len(trained.classes))
    simulated = data.simulated or bool(trained.card["data"].get("simulated"))
    return chosen, {
        "name": display_name(trained), "data": f"{data.name}, {chosen.name}",
        "simulated": simulated,
    }  # fmt: skip


def display_name(run: Trained) -> str:
    """The model, its task where that isn't sel, and the options that aren't its defaults."""
    from avel.models.base import models
    from avel.tasks import DEFAULT

    card = run.card
    defaults = models.get(card["model"]).options() if card["options"] else {}
    changed = [f"{k}={v}" for k, v in card["options"].items() if defaults.get(k) != v]
    task = [] if card["task"] == DEFAULT else [card["task"]]
    return " ".join([card["model"], *task, *changed])


def listed_runs(predictions: Predictions | Sequence[Predictions]) -> list[Predictions]:
    """One or several seeds of one run as a list; all must be of the same clips.

    Raises:
        UsageError: if there is none, or they are of different clips.
    """
    listed = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    if not listed:
        raise UsageError("there are no predictions", hint="give those of at least one run")
    for other in listed[1:]:
        check_same_clips(listed[0], other)
    return listed


def check_same_clips(a: Predictions, b: Predictions) -> None:
    """Refuse predictions for different clips or classes.

    Raises:
        UsageError: that names both.
    """
    same = a.truth.shape == b.truth.shape and a.classes == b.classes and a.ids == b.ids
    if not same or not np.array_equal(a.truth, b.truth):
        raise UsageError(
            f"{a.name or 'one'} and {b.name or 'another'} are predictions for different clips",
            expected="the same split and classes",
        )
