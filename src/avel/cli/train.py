"""`avel train`: a model on a data set, one seed or several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.cli._options import Device, exits_when_stopped
from avel.cli._terminal import progress_console
from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.evaluation.cross_validation import Folds
    from avel.training.loop import Run

_PAIRS = (
    "data=DIR, several with commas between (data=A,B), or data=ave root=DIR; task=sel|wsel|cml; "
    "setting=…; data.KEY=… for the data set; recipe fields and model options (epochs=30 lr=5e-4 "
    "lambda_s=0.3); mmel.KEY=… for the model that cml starts from."
)


def train(
    model: Annotated[
        str, typer.Argument(help="A name of `avel ls models`, or a file of your own, ./mymodel.py.")
    ],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help=_PAIRS)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder; by default runs/MODEL_TASK."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|paper|small",
            help="A recipe in TOML, the paper's, or that for small data; KEY=VALUE replaces its "
            "fields. By default chosen by the number of training clips.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many seeds to train.")] = 1,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            help="Cross-validate with so many folds, then train on everything: for data without a "
            "large enough validation split.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume a stopped run.")] = False,
    init: Annotated[
        Path | None, typer.Option(help="A run whose weights are the first ones.")
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="Accept an --init trained on clips of the evaluation."),
    ] = False,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many devices.")] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")
    ] = False,
    test_chosen: Annotated[
        bool,
        typer.Option(
            "--test-chosen",
            help="Show also what the epoch that is best on the test clips scores, for comparison "
            "with papers that chose theirs so. It is never the run's epoch.",
        ),
    ] = False,
) -> None:
    """Train a model, and evaluate it.

    It is evaluated on the test split, or by cross-validation.
    """
    from avel.memory import keep_memory

    keep_memory()
    from avel.cli._pairs import check_all, is_folder, open_data, parse_pairs, save_data_arguments
    from avel.data.check import dataset_summary
    from avel.evaluation.cross_validation import pool
    from avel.evaluation.evaluate import evaluate
    from avel.models.base import models
    from avel.tasks import DEFAULT, task_named
    from avel.training.mmel import mmel_recipe
    from avel.training.recipes import SMALL, resolve, small_recipe_text

    if "=" in model and not model.endswith(".py"):
        raise UsageError(
            f"no model stands before {model}",
            expected="a name of `avel ls models`, then KEY=VALUE",
            hint=f"avel train evidence {model} ...",
        )
    model = models.named(model)
    arguments = parse_pairs(pairs or [])
    task: Any = arguments.task or DEFAULT
    file = None if recipe in ("paper", "small") else recipe
    # an unknown setting is said once, beside the recipe's own mistakes
    known = arguments.setting if arguments.setting in task_named(task).settings else None
    setting, chosen, trains_mmel, _ = check_all(
        lambda: task_named(task).check_setting(arguments.setting),
        lambda: resolve(model, task, file=file, pairs=arguments.recipe, setting=known),
        lambda: _trains_mmel(model, task, arguments.mmel, init),
        lambda: _check_folds(task, folds, init, test_chosen),
    )
    folder = out or Path("runs") / f"{model}_{task}"
    rest: dict[str, Any] = {
        "setting": setting, "resume": resume, "allow_leak": allow_leak,
        "device": device, "devices": devices, "tensorboard": tensorboard,
        **({"test_chosen": True} if test_chosen else {}),
    }  # fmt: skip
    if trains_mmel:
        rest["mmel"] = mmel_recipe(model, chosen, arguments.mmel)
    data = open_data(arguments, training=True)
    if is_folder(arguments):
        _print(dataset_summary(data))
    count = sum(len(data.splits[n]) for n in (("train",) if folds is None else pool(data)))
    if recipe == "small" or (recipe is None and task_named(task).classifies and count < SMALL):
        chosen = resolve(model, task, pairs=arguments.recipe, small=True)
        _print(small_recipe_text(chosen, count))
    if folds is None:
        _suggest_folds(data, task)
    simulated = " (simulated features)" if data.simulated else ""
    runs, validated = [], []
    for number in range(seed, seed + seeds):
        path = folder / f"seed-{number}" if seeds > 1 else folder
        with _bar(f"{model} {task} seed {number}") as step:
            if folds is None:
                run = _one(model, data, task, chosen, init, step, seed=number, out=path, **rest)
            else:
                cross_validation, run = _folded(
                    model, data, task, chosen, step, folds, seed=number, out=path, **rest
                )
                validated.append(cross_validation)
        runs.append(run)
        if not _is_secondary():
            save_data_arguments(arguments, path)
            _print(_line(number, run, folds) + f"{simulated}; {path}")
    if _is_secondary():
        return
    print()
    if validated:
        print(_results(validated, folder))
    if folds is None or not data.drawn:
        print(evaluate(runs))


def _check_folds(task: str, folds: int | None, init: Path | None, test_chosen: bool) -> None:
    from avel.tasks import task_named

    if folds is not None and test_chosen:
        raise UsageError(
            "--folds with --test-chosen: folds select the epoch without any test clip",
            hint="leave one of them out",
        )
    if folds is not None and (init is not None or not task_named(task).classifies):
        raise UsageError(
            "--folds can't be used with task=cml or --init",
            expected="task=sel or task=wsel from fresh weights",
            hint="leave --folds out",
        )


def _suggest_folds(data: Any, task: str) -> None:
    """Print a note where a validation split is too small to choose an epoch by."""
    from avel.evaluation.cross_validation import FEW, recordings
    from avel.tasks import task_named

    count = recordings(data)
    if not task_named(task).classifies or count >= FEW or "val" not in data.splits:
        return
    val, test = (recordings(data, name) for name in ("val", "test"))
    over = "all of them" if data.drawn else "those of training and validation"
    _print(
        f"{count} files: {val} of validation and {test} of test are too few; --folds 5 "
        f"cross-validates over {over}"
    )


def _print(text: str) -> None:
    if not _is_secondary():
        print(text)


def _line(seed: int, run: Run, folds: int | None) -> str:
    best = run.best
    value = f"seed {seed}: {best['metric']} {100 * best['value']:.2f}"
    if folds is None:
        return f"{value} on validation, epoch {best['epoch']}"
    return f"{value} in the mean of {folds} folds; trained on everything, {best['epoch']} epochs"


def _results(validated: list[Folds], folder: Path) -> Folds:
    """The folds of all seeds as one table, saved in the run's folder."""
    from dataclasses import replace

    joined = replace(validated[0], folds=tuple(f for v in validated for f in v.folds))
    joined.save(folder)
    return joined


def _trains_mmel(model: str, task: str, mmel: list[str], init: Path | None) -> bool:
    """Whether CML trains the SEL model that it starts from; its recipe is checked."""
    from avel.training.mmel import start_task
    from avel.training.recipes import resolve

    start = start_task(model, task)
    if init is None and start is not None:
        resolve(model, start, pairs=mmel)
        return True
    if mmel:
        raise UsageError(
            f"mmel.{mmel[0]} has no use: the run trains no such model",
            expected="CML of a model that starts from its SEL model, without --init",
            hint="leave it out",
        )
    return False


def _is_secondary() -> bool:
    """Whether this is a further process of several devices; such a process prints nothing."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def _one(
    model: str, data: Any, task: Any, recipe: Any, init: Path | None, step: Callable[..., None],
    **rest: Any,
) -> Run:  # fmt: skip
    from avel.training.loop import fit
    from avel.training.mmel import fit_cml

    with exits_when_stopped():
        if "mmel" in rest:
            return fit_cml(model, data, recipe=recipe, progress=step, **rest)
        return fit(
            model, data, task=task, recipe=recipe, init=init,
            progress=lambda record, epochs: step(task, record, epochs), **rest,
        )  # fmt: skip


def _folded(
    model: str, data: Any, task: Any, recipe: Any, step: Callable[..., None], folds: int,
    **rest: Any,
) -> tuple[Folds, Run]:  # fmt: skip
    """Cross-validate, then train on everything."""
    from avel.evaluation.cross_validation import cross_validate, fit_all

    with exits_when_stopped():
        cross_validation = cross_validate(
            model, data, folds, task=task, recipe=recipe,
            progress=lambda k, record, epochs: step(f"fold {k} of {folds}", record, epochs), **rest,
        )  # fmt: skip
        run = fit_all(
            model, data, cross_validation, recipe=recipe,
            progress=lambda record, epochs: step("everything", record, epochs), **rest,
        )  # fmt: skip
    return cross_validation, run


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[..., None]]:
    """A progress bar over the epochs on a terminal, nothing elsewhere: (name, record, epochs)."""
    from rich.progress import Progress

    console, off = progress_console()
    with Progress(console=console, transient=True, disable=off or _is_secondary()) as bars:
        tasks: dict[str, Any] = {}

        def step(name: str, record: dict[str, Any], epochs: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{title} {name}", total=epochs)
            description = f"{title} {name} loss {record['loss']:.4f}"
            bars.update(tasks[name], completed=record["epoch"], description=description)

        yield step
