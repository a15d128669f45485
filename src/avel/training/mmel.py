"""CML as the paper trains it: from an MMEL (SEL) model that no clip evaluated in CML trained."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avel.data.base import Dataset
from avel.models.base import Recipe, TaskName, models
from avel.tasks import task_named
from avel.training.loop import Run, fit
from avel.training.recipes import resolve

#: Options that belong to CML alone, or to a loss: they don't shape the weights that CML takes.
_OWN = ("form", "negatives", "tau", "lambda_s", "lambda_w", "lambda_c")


def start_task(model: str, task: str) -> TaskName | None:
    """The task whose model a training starts from, None where it starts from fresh weights.

    CML starts from the model's own SEL, where the model has ``init_from``.
    """
    cls, start = models.get(model), task_named(task).starts_from
    return start if start in cls.card.tasks and hasattr(cls, "init_from") else None


@dataclass(frozen=True)
class Spared:
    """Names of the clips that the model which CML starts from must not see.

    Args:
        training: Not trained on: all clips, of any split, of a recording that CML validates or
            tests on.
        validation: Not in the validation that selects its epoch. The same clips where CML has a
            partition of its own; else CML validates on SEL's validation split, and only the
            recordings of its test split are spared.
    """

    training: frozenset[str]
    validation: frozenset[str]


def spared_clips(data: Dataset, setting: str | None = None) -> Spared:
    """The clips that CML is evaluated on, by recording: one video may be several clips.

    Of AVE's training split 2698 clips are left, of its validation split 311.

    Args:
        data: The data set.
        setting: CML's, see :attr:`avel.tasks.Task.settings`.
    """
    task = task_named("cml")
    _, val, test = task.splits(data, setting)
    tested = _clips_of(data, test.ids)
    evaluated = tested | _clips_of(data, val.ids)
    return Spared(evaluated, evaluated if has_own_partition(data) else tested)


def has_own_partition(data: Dataset) -> bool:
    """Whether CML has a partition of its own in a data set, as in AVE."""
    return task_named("cml").split_names(data.splits) != task_named("sel").split_names(data.splits)


def _clips_of(data: Dataset, ids: Collection[str]) -> frozenset[str]:
    """All clips of a data set that are of the same recordings as some of them."""
    recordings = data.recordings_of(ids)
    return frozenset(
        clip
        for split in data.splits.values()
        for clip in split.ids
        if data.recording_of(clip) in recordings
    )


def mmel_recipe(model: str, recipe: Recipe, pairs: list[str] | None = None) -> Recipe:
    """The SEL recipe of the model that CML starts from, with CML's options of structure.

    Args:
        model: Registry name.
        recipe: CML's.
        pairs: ``key=value`` that change it.
    """
    structure = {k: v for k, v in recipe.options.items() if k not in _OWN}
    return resolve(
        model, "sel", values={"precision": recipe.precision, **structure}, pairs=pairs or ()
    )


def fit_cml(
    model: str,
    data: Dataset,
    *,
    recipe: Recipe | None = None,
    mmel: Recipe | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    setting: str | None = None,
    resume: bool = False,
    mmel_out: str | Path | None = None,
    progress: Callable[[str, Any, int], None] | None = None,
    test_chosen: bool = False,
    **options: Any,
) -> Run:
    """Train the SEL model without CML's validation and test clips, then CML from it.

    On AVE the first is trained on the 2698 clips of SEL's training split whose videos CML doesn't
    evaluate, and its epoch is selected on such clips of the validation split.

    Args:
        model: Registry name.
        data: The data set.
        recipe, mmel: Of CML and of the SEL model; the paper's if None.
        seed: Of both.
        out: Folder of the CML run.
        mmel_out: Folder of the SEL model; ``out/mmel`` if None.
        setting: CML's, see :attr:`avel.tasks.Task.settings`.
        resume: Resume where either stopped.
        progress: Called with ``"mmel"`` or ``"cml"``, the epoch's record and the epochs.
        test_chosen: Of the CML model, see :func:`avel.fit`.
        options: For both, as for :func:`avel.fit`.
    """
    recipe = recipe or models.get(model).recipe("cml")
    spared = spared_clips(data, setting)
    sel_run = fit(
        model, data, task="sel", seed=seed, recipe=mmel or mmel_recipe(model, recipe),
        out=mmel_out or (Path(out) / "mmel" if out else None), resume=resume,
        exclude=spared.training, exclude_val=spared.validation,
        progress=_named(progress, "mmel"), **options,
    )  # fmt: skip
    return fit(
        model, data, task="cml", seed=seed, recipe=recipe, out=out, setting=setting,
        resume=resume, init=sel_run.trained, progress=_named(progress, "cml"),
        test_chosen=test_chosen, **options,
    )  # fmt: skip


def _named(
    progress: Callable[[str, Any, int], None] | None, name: str
) -> Callable[[Any, int], None] | None:
    if progress is None:
        return None
    return lambda record, epochs: progress(name, record, epochs)
