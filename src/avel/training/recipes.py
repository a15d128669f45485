"""Recipes: the paper's values, changed by a TOML file and by ``key=value``, checked all at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from avel.errors import UsageError, all_at_once, unknown_name
from avel.files import read_toml
from avel.models.base import Model, Recipe, TaskName, models
from avel.tasks import TASKS, task_named
from avel.types import Json

_CHOICES = {
    "precision": ("auto", "float32", "bf16"), "selection": ("metric", "tag_loss", "last"),
    "optimizer": ("adam", "rmsprop"),
}  # fmt: skip
_LEAST: dict[str, float] = {
    "epochs": 1, "batch": 1, "validate_every": 1, "weight_decay": 0, "patience": 0, "clip_norm": 0,
    "input_dropout": 0, "balance": 0, "lr_step": 0, "average": 0, "copied": 0,
}  # fmt: skip
_BELOW_1 = ("input_dropout", "average", "copied")
#: Fewer training clips than this are small data.
SMALL = 300
#: The recipe of small data, in place of the paper's values; docs/your-own-videos.md has the table
#: of what each of them gave.
SMALL_VALUES: dict[str, Any] = {
    "epochs": 30, "batch": 8, "patience": 10, "standardize": True, "input_dropout": 0.5,
}  # fmt: skip
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def resolve(
    model: str,
    task: TaskName = "sel",
    *,
    file: str | Path | None = None,
    pairs: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
    setting: str | None = None,
    small: bool = False,
) -> Recipe:
    """The recipe of a training: the paper's, changed by a TOML file, ``pairs`` and ``values``.

    Args:
        model: Registry name.
        task: What it is trained for.
        file: TOML, as :func:`to_toml` writes it: recipe fields, model options under ``[options]``.
        pairs: ``"key=value"``; a key is a recipe field or an option of the model.
        values: The same as plain values.
        setting: The task's; the model options that it stands for are among the changes.
        small: Start with :func:`for_small_data` in place of the paper's values.

    Raises:
        UsageError: for an unknown model or task, and with every mistake in keys and values.
    """
    cls = models.get(model)
    if task not in cls.card.tasks:
        if task in TASKS:
            raise UsageError(f"{model} has no task {task}",
                             expected=f"task={' or '.join(cls.card.tasks)}",
                             hint="choose another model: `avel ls models`")  # fmt: skip
        raise unknown_name("task", task, cls.card.tasks)
    values = {**(values or {}), **setting_options(cls, task, setting)}
    known = _known(cls.recipe(task), cls.options())
    changes: dict[str, Any] = {}
    mistakes: list[str] = []
    for where, key, value in _all_given(file, pairs, values, mistakes):
        if key not in known:
            mistakes.append(where + _unknown(key, known))
            continue
        try:
            changes[key] = typed(key, value, known[key])
        except ValueError as e:
            mistakes.append(f"{where}{e}")
    recipe = for_small_data(cls, task) if small else cls.recipe_of(task, changes)
    changed = _changed(recipe, changes)
    mistakes += [*_refused(cls, task, changed.options), *_beyond_task(changed, task)]
    if mistakes:
        raise all_at_once(f"recipe of {model}", mistakes)
    return changed


def setting_options(model: type[Model], task: TaskName, setting: str | None) -> dict[str, str]:
    """The model options that a task's setting stands for; those of its default for None.

    Raises:
        UsageError: if the task has no such setting.
    """
    kind = task_named(task)
    return kind.model_options(kind.check_setting(setting), model.options())


def for_small_data(model: type[Model], task: TaskName) -> Recipe:
    """The recipe below :data:`SMALL` clips: :data:`SMALL_VALUES` and the model's own over them."""
    return replace(model.recipe(task), **{**SMALL_VALUES, **model.small_values})


def small_recipe_text(recipe: Recipe, count: int) -> str:
    """A line about the recipe that was chosen for so many clips, and how to get the paper's."""
    parts = [
        "standardised features" if recipe.standardize else "",
        f"dropout {recipe.input_dropout:g}" if recipe.input_dropout else "",
        f"weight decay {recipe.weight_decay:g}" if recipe.weight_decay else "",
        f"early stopping after {recipe.patience} epochs" if recipe.patience else "",
        "rare classes drawn more often" if recipe.balance else "",
        "mirrored copies" if recipe.mirror else "",
        "time-shifted copies" if recipe.roll else "",
        f"weights averaged with decay {recipe.average:g}" if recipe.average else "",
        f"batches of {recipe.batch}", f"at most {recipe.epochs} epochs",
        *(f"{name}={json.dumps(value)}" for name, value in recipe.options.items()),
    ]  # fmt: skip
    listed = ", ".join(p for p in parts if p)
    return f"{count} clips: small-data recipe ({listed}); --recipe paper keeps the paper's"


def _refused(cls: type[Model], task: TaskName, options: Mapping[str, Any]) -> list[str]:
    """Mistakes in the options that the model itself reports; no weights are allocated."""
    import torch

    wrong = cls.wrong_choices(options)
    mistakes = list(wrong.values())
    candidate = {**cls.options(), **{n: v for n, v in options.items() if n not in wrong}}
    while len(mistakes) <= len(options):
        try:
            audio, visual = cls.widths(candidate)
            with torch.device("meta"):
                cls(audio_dim=audio, visual_dim=visual, classes=28, task=task, **candidate)
        except (ValueError, RuntimeError) as e:  # of torch: sizes that no memory holds
            mistakes.append(str(e).partition("\n")[0])
        else:
            break
        named = mistakes[-1].partition("=")[0]
        if candidate.get(named) == cls.options().get(named):
            break
        candidate[named] = cls.options()[named]  # look for others
    return mistakes


def check_task(recipe: Recipe, task: TaskName) -> None:
    """Whether a task can be trained by a recipe.

    Raises:
        UsageError: if CML is to be trained by what changes a clip's features or their order.
    """
    mistakes = _beyond_task(recipe, task)
    if mistakes:
        raise all_at_once(f"recipe of {task}", mistakes)


def _beyond_task(recipe: Recipe, task: TaskName) -> list[str]:
    """A sentence for each value of a recipe that the task can't be trained with."""
    kind = task_named(task)
    mistakes = [
        f"{name}={getattr(recipe, name)}: of task sel or wsel alone"
        for name in kind.recipe_excludes
        if getattr(recipe, name)
    ]
    if recipe.selection == "tag_loss" and not kind.weak:
        mistakes.append("selection=tag_loss: of task wsel alone")
    return mistakes


def _known(recipe: Recipe, options: Mapping[str, Any]) -> dict[str, Any]:
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name != "options"}
    return {**options, **recipe.options, **values}


def _all_given(
    file: str | Path | None, pairs: Iterable[str], values: Mapping[str, Any], mistakes: list[str]
) -> list[tuple[str, str, Any]]:
    """(where, key, value) of all changes, the file's first so that the others override it."""
    triples: list[tuple[str, str, Any]] = []
    if file is not None:
        table = read_toml(file, expected="a recipe in TOML", hint="correct the file")
        options = table.pop("options", {})
        if not isinstance(options, dict):
            mistakes.append(f"{file}: options: expected a table")
            options = {}
        triples += [(f"{file}: ", k, v) for k, v in {**table, **options}.items()]
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if equals:
            triples.append(("", key.strip(), text.strip()))
        else:
            mistakes.append(f"{pair!r}: expected key=value")
    return triples + [("", k, v) for k, v in values.items()]


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=2, cutoff=0.5)
    if near:
        return f"unknown key {key!r}: did you mean {' or '.join(near)}?"
    return f"unknown key {key!r} (known: {', '.join(known)})"


def typed(key: str, value: Any, default: Any) -> Any:
    """A value as its default's type; text is parsed, other values must be of the type.

    Raises:
        ValueError: if it is of another type or out of its range.
    """
    result = (
        _parse(key, value, default) if isinstance(value, str) else _checked(key, value, default)
    )
    if key in _CHOICES and result not in _CHOICES[key]:
        raise ValueError(f"{key}={value!r}: expected {', '.join(_CHOICES[key])}")
    if key == "lr" and result <= 0:
        raise ValueError(f"lr={value!r}: expected more than 0")
    if key in _BELOW_1 and result >= 1:
        raise ValueError(f"{key}={value!r}: expected less than 1")
    if key in _LEAST and result < _LEAST[key]:
        raise ValueError(f"{key}={value!r}: expected at least {_LEAST[key]:g}")
    return result


def _parse(key: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in _WORDS:
            raise ValueError(f"{key}={text!r}: expected true or false")
        return _WORDS[text.lower()]
    if isinstance(default, int | float):
        kind = type(default)
        try:
            number = kind(text)
        except ValueError:
            raise ValueError(f"{key}={text!r}: expected {_kind(default)}") from None
        return _checked(key, number, default)
    return text


def _checked(key: str, value: Any, default: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float) and (whole or isinstance(value, float)):
        if math.isfinite(value):
            return float(value)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, int) and whole:
        if abs(value) < 2**31:
            return value
    elif isinstance(default, str) and isinstance(value, str):
        return value
    raise ValueError(f"{key}={value!r}: expected {_kind(default)}")


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(type(default), "another value")


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    names = {f.name for f in fields(recipe)}
    options = {**recipe.options, **{k: v for k, v in changes.items() if k not in names}}
    return replace(recipe, options=options, **{k: v for k, v in changes.items() if k in names})


def to_json(recipe: Recipe) -> Json:
    """The recipe as plain data."""
    return {**asdict(recipe), "options": dict(recipe.options)}


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML that :func:`resolve` reads."""
    table = to_json(recipe)
    options = table.pop("options")
    lines = [f"{k} = {json.dumps(v)}" for k, v in table.items()]  # plain values are alike in both
    lines += ["", "[options]", *(f"{k} = {json.dumps(v)}" for k, v in options.items())]
    return "\n".join(lines) + "\n"
