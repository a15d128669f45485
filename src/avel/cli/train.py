"""`avel train`: a model on a data set, one seed or several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.errors import UsageError

if TYPE_CHECKING:
    from avel.train import Run

_PAIRS = (
    "data=DIR, or data=ave root=DIR; task=sel|wsel|cml; setting=…; data.KEY=… for the data set; "
    "recipe fields and model options (epochs=30 lr=5e-4 lambda_s=0.3); mmel.KEY=… for the model "
    "that cml starts from."
)


def train(
    model: Annotated[
        str, typer.Argument(help="See `avel ls models`; or a file of your own, ./mymodel.py.")
    ],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help=_PAIRS)] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; runs/MODEL_TASK.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe in TOML; KEY=VALUE goes over it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Train this many seeds.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    init: Annotated[Path | None, typer.Option(help="A run to start from.")] = None,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Accept an --init that has seen clips judged here.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many of them.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for it too.")] = False,
) -> None:
    """Train a model and judge it on the test split."""
    from avel.allocator import keep_memory

    keep_memory()
    from avel.cli._pairs import open_data, remember, sort_pairs, together
    from avel.evaluation import evaluate
    from avel.mmel import mmel_recipe
    from avel.models import models
    from avel.recipes import resolve
    from avel.tasks import check_setting

    model = models.named(model)
    given = sort_pairs(pairs or [])
    task: Any = given.task or "sel"
    setting, chosen, first = together(
        lambda: check_setting(task, given.setting),
        lambda: resolve(model, task, file=recipe, pairs=given.recipe),
        lambda: _first(model, task, given.mmel, init),
    )
    folder = out or Path("runs") / f"{model}_{task}"
    rest: dict[str, Any] = {
        "setting": setting, "resume": resume, "allow_leak": allow_leak,
        "accelerator": accelerator, "devices": devices, "tensorboard": tensorboard,
    }  # fmt: skip
    if first:
        rest["mmel"] = mmel_recipe(model, chosen, given.mmel)
    data = open_data(given)
    told = " (simulated features)" if data.simulated else ""
    runs = []
    for number in range(seed, seed + seeds):
        place = folder / f"seed-{number}" if seeds > 1 else folder
        with _bar(f"{model} {task} seed {number}") as step:
            runs.append(_one(model, data, task, chosen, init, step, seed=number, out=place, **rest))
        if _is_helper():
            continue
        remember(given, place)
        best = runs[-1].best
        print(f"seed {number}: {best['metric']} {100 * best['value']:.2f} on validation, "
              f"epoch {best['epoch']}{told}; {place}")  # fmt: skip
    if not _is_helper():
        print()
        print(evaluate(runs))


def _first(model: str, task: str, mmel: list[str], init: Path | None) -> bool:
    """Whether CML trains the SEL model that it starts from; checks what is asked of that."""
    from avel.mmel import starts_from_sel
    from avel.recipes import resolve

    if task == "cml" and init is None and starts_from_sel(model):
        resolve(model, "sel", pairs=mmel)
        return True
    if mmel:
        raise UsageError(
            f"mmel.{mmel[0]} for a run that trains no such model",
            wanted="CML of a model that starts from its SEL model, without --init",
            do="leave it out",
        )
    return False


def _is_helper() -> bool:
    """Whether this process is one of several devices' and not the first: it stays quiet."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def _one(
    model: str, data: Any, task: Any, recipe: Any, init: Path | None, step: Callable[..., None],
    **rest: Any,
) -> Run:  # fmt: skip
    from avel.mmel import fit_cml
    from avel.train import Stopped, fit

    try:
        if "mmel" in rest:
            return fit_cml(model, data, recipe=recipe, progress=step, **rest)
        return fit(
            model, data, task=task, recipe=recipe, init=init,
            progress=lambda record, epochs: step(task, record, epochs), **rest,
        )  # fmt: skip
    except Stopped as e:
        typer.echo(f"avel: {e}", err=True)
        raise typer.Exit(130) from e


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[..., None]]:
    """A progress bar over the epochs on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal or _is_helper()
    ) as bars:
        tasks: dict[str, Any] = {}

        def step(name: str, record: dict[str, Any], epochs: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{title} {name}", total=epochs)
            told = f"{title} {name} loss {record['loss']:.4f}"
            bars.update(tasks[name], completed=record["epoch"], description=told)

        yield step
