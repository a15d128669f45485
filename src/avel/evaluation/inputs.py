"""What a run is evaluated on: the data over the run's classes, and the split."""

from __future__ import annotations

from difflib import get_close_matches

from avel.backbones.identity import backbone_identity, backbone_name
from avel.data.base import Dataset, Split
from avel.data.concat import relabel
from avel.errors import CheckpointError, DataError
from avel.inference.checkpoint import Trained
from avel.tasks import Task, task_named


def align_classes(run: Trained, data: Dataset) -> Dataset:
    """The data over a run's classes, in their order, so that the run can be evaluated on them.

    Data that lack some of the run's classes, or have them in another order, are relabelled.

    Raises:
        DataError: if they have classes that the run doesn't have.
        CheckpointError: if their features are of other backbones than the run was trained on.
    """
    unknown = [c for c in data.classes if c not in run.classes]
    if unknown:
        nearest = {c: get_close_matches(c, run.classes, n=1, cutoff=0.8) for c in unknown[:5]}
        names = ", ".join(f"{c} ({n[0]}?)" if n else c for c, n in nearest.items())
        raise DataError(
            f"{data.name} has {len(unknown)} of its {len(data.classes)} classes that the run "
            f"doesn't have: {names}" + ", …" * (len(unknown) > 5),
            expected=f"some of the run's {len(run.classes)}: {', '.join(run.classes[:10])}"
            + ", …" * (len(run.classes) > 10),
            hint="name the classes as the run does, leave those labels out, or train on these data",
        )
    for own, theirs in (
        (run.audio_card, data.audio_card),
        (run.visual_card, data.visual_card),
    ):
        if backbone_identity(own) != backbone_identity(theirs):
            raise CheckpointError(
                f"the features are of {backbone_name(theirs)}",
                expected=f"those of {backbone_name(own)}",
                hint="extract the data set again with the run's backbones",
            )
    return data if data.classes == run.classes else relabel(data, run.classes)


def choose_split(data: Dataset | Split, task: Task | str, name: str | None, classes: int) -> Split:
    """The split to evaluate a task on, prepared for it: the task's test split if ``name`` is None.

    Raises:
        DataError: if the data have no such split.
    """
    task = task if isinstance(task, Task) else task_named(task)
    if isinstance(data, Split):
        return task.prepare(data, classes=classes)
    known = data.splits
    expected = name or task.split_names(known)[2]
    if expected in ("train", "val", "test"):
        expected = task.split_names(known)[("train", "val", "test").index(expected)]
    if expected not in known:
        raise DataError(
            f"{data.name} has no split {expected!r}", expected=", ".join(known), hint="choose one"
        )
    return task.prepare(known[expected], classes=classes)
