"""Tasks: what is trained on, how it is judged, and what an answer that looks at nothing scores.

One module a task (:mod:`.sel`, :mod:`.wsel`, :mod:`.cml`); the functions here choose among them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel.data.base import Dataset, Split
from avel.errors import DataError, UsageError, unknown_name

if TYPE_CHECKING:
    from avel.models.base import TaskName

TASKS: tuple[TaskName, ...] = ("sel", "wsel", "cml")

#: What can be trained on, the default first. CML: ``release`` takes background segments as
#: negatives, ``sync`` mismatched pairs of a clip too.
SETTINGS: dict[str, tuple[str, ...]] = {
    "sel": ("supervised",),
    "wsel": ("tag", "tag-clean", "proportion"),
    "cml": ("release", "sync"),
}

#: SEL and WSEL: ``predict(split)`` -> labels (N, T), scores (N, T, C+1).
#: CML: ``predict(split, clips, query)`` -> costs (n, windows), see :data:`avel.tasks.cml.Costs`.
Predict = Callable[..., Any]


def check_setting(task: str, setting: str | None) -> str:
    """The setting, or the task's default for None.

    Raises:
        UsageError: if there is no such task, or the task has no such setting.
    """
    if task not in SETTINGS:
        raise unknown_name("task", task, TASKS)
    known = SETTINGS[task]
    if setting is not None and setting not in known:
        raise UsageError(
            f"{task} has no setting {setting!r}",
            expected=f"one of {', '.join(known)}",
            hint="settings of WSEL can't be compared with one another: choose one",
        )
    return setting or known[0]


def model_options(task: str, setting: str, known: Container[str]) -> dict[str, str]:
    """The model options that a setting stands for, to be given to ``build_model``.

    Args:
        task, setting: See :data:`SETTINGS`.
        known: The model's option names: one without ``negatives`` learns from matches alone, so
            CML's settings are the same to it.
    """
    asks = task == "cml" and setting != SETTINGS["cml"][0] and "negatives" in known
    return {"negatives": setting} if asks else {}


def setting_of(task: str, setting: str, options: Mapping[str, Any]) -> str:
    """The setting that a model's options stand for, ``setting`` where they name none."""
    named = options.get("negatives") if task == "cml" else None
    return str(named) if named in SETTINGS["cml"] else setting


def split_names(task: str, known: Container[str] | None = None) -> tuple[str, str, str]:
    """Names of the task's training, validation and test splits.

    Args:
        task: The task.
        known: The data set's split names; CML has a partition of its own only where it is there.
    """
    names = ("train", "val", "test")
    own = ("cml_train", "cml_val", "cml_test")
    has = known is None or all(n in known for n in own)
    return own if task == "cml" and has else names


def prepare(
    split: Split,
    task: str,
    *,
    setting: str | None = None,
    background: Split | None = None,
    classes: int,
) -> Split:
    """A split as the task wants it for training.

    WSEL gets tags, and in the setting ``tag`` the background clips behind its own. CML keeps a
    partition made for it (``cml_…``) as it is, and of other splits the clips that have one event
    shorter than the clip. Validation and test splits need no background clips.

    Raises:
        UsageError: for an unknown task or setting.
        DataError: if no clip is left, or the background clips don't fit.
    """
    setting = check_setting(task, setting)
    from avel.tasks import cml, wsel

    if task == "wsel":
        share = setting == "proportion"
        split = wsel.add_tags(split, classes, proportion=share)
        if setting == "tag" and background is not None:
            split = wsel.join(split, wsel.add_tags(background, classes))
    elif task == "cml" and not split.name.startswith("cml_"):
        split = cml.keep_usable(split, classes)
    if not len(split):
        raise DataError(
            f"split {split.name!r} holds no clip for {task}",
            expected="CML: clips with one event that is shorter than the clip",
            hint="add such clips to the split",
        )
    return split


def splits(
    dataset: Dataset, task: str, setting: str | None = None
) -> tuple[Split, Split, Split]:  # fmt: skip
    """The task's training, validation and test splits, ready for use.

    Raises:
        UsageError: for an unknown task or setting.
        DataError: if the data set lacks a split, or one of them holds no clip for the task.
    """
    names = split_names(task, dataset.splits)
    missing = [n for n in names if n not in dataset.splits]
    if missing:
        raise DataError(
            f"{dataset.name} has no split {', '.join(missing)}",
            expected="train, val and test",
            hint="name the missing splits when the data set is loaded or made",
        )
    train, val, test = (dataset.splits[n] for n in names)
    count, noise = len(dataset.classes), dataset.splits.get("background")
    return (
        prepare(train, task, setting=setting, background=noise, classes=count),
        prepare(val, task, setting=setting, classes=count),
        prepare(test, task, setting=setting, classes=count),
    )


def selection_metric(task: str) -> str:
    """The metric that selects the epoch on validation, highest best."""
    return "mean_accuracy" if task == "cml" else "segment_accuracy"


def evaluate(
    predict: Predict,
    split: Split,
    task: str,
    classes: int,
    *,
    step: float = 1.0,
    full: bool = True,
) -> dict[str, float]:
    """Every metric of a task by name; shares in [0, 1], errors in seconds.

    Args:
        predict: See :data:`Predict`.
        split: The clips to judge on.
        task: The task.
        classes: C.
        step: Seconds a segment.
        full: False where only the selection metric's kin is needed (CML: no ``second``).
    """
    from avel.tasks import cml, sel

    if task == "cml":
        return cml.evaluate(predict, split, classes, full=full)
    return sel.score(_labels(predict, split), split.labels, classes, step=step)


def details(
    predict: Predict, split: Split, task: str, classes: tuple[str, ...], *, step: float = 1.0
) -> dict[str, dict[str, float]]:
    """Metrics and count of each class by name."""
    from avel.tasks import cml, sel

    if task == "cml":
        return cml.details(predict, split, classes)
    return sel.details(_labels(predict, split), split.labels, classes, step=step)


def answers(predict: Predict, split: Split, task: str, classes: int) -> dict[str, list[Any]]:
    """What was answered to each clip, as plain data: what a later comparison needs.

    Returns:
        SEL and WSEL: ``labels``, (N, T) class ids. CML: ``a2v`` and ``v2a``, the first segment of
        the window that was chosen in each clip of :func:`avel.tasks.cml.usable`.
    """
    from avel.tasks import cml

    if task != "cml":
        return {"labels": _labels(predict, split).tolist()}
    cases = cml.usable(split, classes)
    return {
        w: cml.choose(predict, split, cases, modality).tolist() for w, modality in cml.MODALITIES
    }


def right_by_clip(
    answered: Mapping[str, list[Any]], split: Split, task: str, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right answers to each clip, and answers in all: their sums' ratio is the task's metric.

    Args:
        answered: See :func:`answers`.
        split: The clips that were judged.
        task, classes: As for :func:`answers`.

    Returns:
        (N,) each: segments, or in CML the two directions of every usable clip.

    Raises:
        DataError: if the answers are of other clips.
    """
    from avel.tasks import cml

    truth, ways = split.labels, ["labels"]
    if task == "cml":
        truth, ways = cml.usable(split, classes).start, [way for way, _ in cml.MODALITIES]
    held = [np.asarray(answered.get(way, ()), np.int64) for way in ways]
    if any(array.shape != truth.shape for array in held):
        raise DataError(
            f"answers of shape {held[0].shape}", expected=f"{truth.shape}, those of {split.name}",
            hint="judge on the same data",
        )  # fmt: skip
    if task == "cml":
        return np.sum([h == truth for h in held], axis=0), np.full_like(truth, len(held))
    real = truth >= 0
    return ((held[0] == truth) & real).sum(1), real.sum(1)


def _labels(predict: Predict, split: Split) -> NDArray[np.int64]:
    labels = np.asarray(predict(split)[0])
    if labels.shape != split.labels.shape:
        raise ValueError(f"labels of shape {labels.shape}: expected {split.labels.shape}")
    return labels


def trivial(split: Split, task: str, classes: int) -> dict[str, float]:
    """What answers that look at nothing score: segment accuracy, in CML window accuracy."""
    from avel.tasks import cml, sel

    return cml.trivial(split, classes) if task == "cml" else sel.trivial(split, classes)
