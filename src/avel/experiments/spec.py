"""Trainings that tables need and their outcomes, as plain data."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avel.errors import all_at_once
from avel.models.base import Recipe, TaskName, models
from avel.tasks import TASKS, task_named
from avel.training.mmel import mmel_recipe, start_task
from avel.training.recipes import resolve, to_json
from avel.types import Json


@dataclass(frozen=True)
class Training:
    """A training, for any seed; tables that need the same one share it.

    Args:
        model: Registry name.
        task: ``"sel"``, ``"wsel"`` or ``"cml"``.
        recipe: With a value for every option of the model.
        setting: The task's, see :attr:`avel.tasks.Task.settings`.
        start: The training that this one starts from.
        spares: True where the clips that CML is evaluated on are left out.
    """

    model: str
    task: TaskName
    recipe: Recipe
    setting: str
    start: Training | None = None
    spares: bool = False

    @property
    def changed(self) -> dict[str, Any]:
        """The options that aren't the model's defaults."""
        defaults = models.get(self.model).options()
        return {k: v for k, v in self.recipe.options.items() if defaults[k] != v}

    def identity(self) -> Json:
        """All that tells it from other trainings, as plain data.

        Defaults are left out, so that a new option or field at its default changes nothing.
        """
        plain, usual = to_json(self.recipe), to_json(Recipe())
        recipe = {k: v for k, v in plain.items() if k != "options" and usual[k] != v}
        return {
            "model": self.model, "task": self.task, "setting": self.setting, "recipe": recipe,
            "options": self.changed, "spares": self.spares,
            "start": self.start.identity() if self.start else None,
        }  # fmt: skip

    def is_of(self, recipe: Json) -> bool:
        """Whether a recipe in full, as an outcome holds it, is this one's, as far as it goes."""
        own = _flat(to_json(self.recipe))
        return all(own.get(k, v) == v for k, v in _flat(recipe).items())


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training with one seed.

    Args:
        seed: Its seed.
        recipe: Its recipe, in full.
        epochs: What it trained.
        seconds: Its time, over all calls.
        parameters: Trainable numbers.
        start_epochs: Of the training that it started from, None without one.
        evaluation: :meth:`avel.evaluation.results.Evaluation.to_json` on the test split.
        predictions: For each test clip, see :meth:`avel.tasks.Task.predictions`; None
            in outcomes of older versions, which didn't store them.
    """

    seed: int
    recipe: Json
    epochs: int
    seconds: float
    parameters: int
    start_epochs: int | None
    evaluation: Json
    predictions: Json | None = None


def prepare(
    model: str,
    task: TaskName,
    options: Mapping[str, Any],
    *,
    setting: str | None = None,
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
) -> Training:
    """The training of a table's row.

    Args:
        model, task: As for :func:`avel.fit`.
        options: What makes the row; ``pairs`` don't change them.
        setting: The task's default if None.
        pairs: ``key=value`` for its recipe; with a model's or a task's name in front
            (``jca.audio_out=128``, ``cml.epochs=20``) for that one alone.
        mmel: The same for the SEL model that CML starts from.

    Raises:
        UsageError: with every mistake in them.
    """
    kind = task_named(task)
    setting = kind.check_setting(setting)
    own = _pairs_for(pairs, model, task)
    recipe = resolve(model, task, values=options, pairs=own, setting=setting)
    start = None
    if before := start_task(model, task):
        first = mmel_recipe(model, recipe, _pairs_for(mmel, model, task))
        start = _full(model, before, first, task_named(before).settings[0], spares=True)
    return replace(_full(model, task, recipe, setting), start=start)


def _flat(recipe: Json) -> Json:
    return {**{k: v for k, v in recipe.items() if k != "options"}, **recipe["options"]}


def _full(
    model: str, task: TaskName, recipe: Recipe, setting: str, *, spares: bool = False
) -> Training:
    options = {**models.get(model).options(), **recipe.options}
    return Training(model, task, replace(recipe, options=options), setting, spares=spares)


def check_owners(pairs: Sequence[str]) -> None:
    """Whether the word before a pair's point is a model or a task.

    Raises:
        UsageError: with every one that isn't.
    """
    known = {*TASKS, *(name for name, _ in models)}
    unknown = [f"{pair!r}: {_owner(pair)} is neither a model nor a task" for pair in pairs
             if _owner(pair) and _owner(pair) not in known]  # fmt: skip
    if unknown:
        raise all_at_once("arguments", unknown, hint="see `avel ls models`")


def touches(pair: str, model: str, task: str, fixed: Container[str] = ()) -> bool:
    """Whether a pair changes the recipe of a model's row in a task.

    Args:
        pair: ``key=value``, with or without a model or a task in front.
        model, task: Of the row.
        fixed: Options that make the row what it is: no pair changes them.
    """
    owner = _owner(pair)
    key = pair.partition("=")[0].removeprefix(f"{owner}.")
    return owner in ("", task, model) and key not in fixed


def _owner(pair: str) -> str:
    head, point, _ = pair.partition("=")[0].partition(".")
    return head if point else ""


def _pairs_for(pairs: Sequence[str], model: str, task: str) -> list[str]:
    """Those that are everyone's, then those of the task, then those of the model."""
    return [
        pair[len(owner) + 1 :] if owner else pair
        for owner in ("", task, model)
        for pair in pairs
        if _owner(pair) == owner
    ]
