"""Sweeps: table V's ablations with a control, and the lambdas of two papers, to a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from avel import papers
from avel.data.base import Dataset
from avel.errors import UsageError, unknown_name
from avel.evaluation.evaluate import table
from avel.experiments.reproduce import Cell, Options, carry_out, plan
from avel.experiments.result import RowResult, pairs_text
from avel.files import write_whole
from avel.models.base import models
from avel.papers import FIGURE_5, Row
from avel.tasks import TASKS, task_named
from avel.types import Json

MODEL = "cspa_csea"
#: What a reader of figure 5 must know.
LAMBDA_NOTE = (
    "Strictly between 0 and 1 lambda does nothing with separate heads: the two streams share no "
    "weight, Adam divides each gradient by its own scale, and the output is the plain mean of the "
    "streams. With heads=shared, the other reading of section III-E, it matters."
)
#: Ours, beside table V's six rows: raw audio and the mean over regions, no co-attention at all.
CONTROL = "neither module (ours)"
#: wu2019's figure 5: the category's share of DAM's loss.
DAM_LAMBDA = "dam_lambda"
SWEEPS = ("table5", *FIGURE_5, DAM_LAMBDA)


def rows(name: str, only: Sequence[str] = ()) -> list[Row]:
    """What a sweep trains.

    Args:
        name: ``"table5"``, ``"lambda_s"``, ``"lambda_w"`` or ``"lambda_c"`` of xue2021, or
            ``"dam_lambda"`` of wu2019.
        only: Tasks to keep; all if empty.

    Raises:
        UsageError: for an unknown sweep, or if no row is left.
    """
    if name not in SWEEPS:
        raise unknown_name("sweep", name, SWEEPS)
    printed = papers.tables()
    if name == "table5":
        control = [Row("", name, CONTROL, MODEL, task, {"modules": "none"}) for task in TASKS]
        rows_of_paper = [*printed["xue2021:V"], *control]
    elif name == DAM_LAMBDA:
        rows_of_paper = printed["wu2019:fig5"]
    else:
        rows_of_paper = [row for row in printed["xue2021:fig5"] if name in row.options]
    selected = [row for row in rows_of_paper if not only or row.task in only]
    if not selected:
        raise UsageError(
            f"sweep {name} has no row of task {' or '.join(only)}",
            expected=" or ".join(sorted({row.task for row in rows_of_paper})),
            hint="leave the tasks out, or name another sweep",
        )
    return selected


def plan_sweep(
    name: str, only: Sequence[str] = (), *, pairs: Sequence[str] = (), mmel: Sequence[str] = ()
) -> list[Cell]:
    """The rows of a sweep with their trainings.

    Of xue2021 with separate heads all lambdas strictly between 0 and 1 are one training, that of
    the paper's lambda (:data:`LAMBDA_NOTE`); with ``heads=shared`` each is its own.

    Arguments and errors are those of :func:`rows` and :func:`avel.experiments.spec.prepare`.
    """
    cells = plan({name: rows(name, only)}, pairs=pairs, mmel=mmel)
    if name not in FIGURE_5:
        return cells
    usual = models.get(MODEL).options()[name]
    interior = next((c.training for c in cells if c.row.options[name] == usual), None)
    return [
        replace(cell, training=interior)
        if interior
        and 0 < cell.row.options[name] < 1
        and cell.training.recipe.options["heads"] != "shared"
        else cell
        for cell in cells
    ]


def sweep(
    name: str,
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
    **options: Unpack[Options],
) -> list[Json]:
    """Train every row of a sweep; what is done already is taken as it is.

    Of xue2021's lambdas strictly between 0 and 1 see :data:`LAMBDA_NOTE`.

    After each training ``OUT/NAME.csv`` is written anew, so that a sweep which was stopped goes on
    where it was when it is called again; :func:`avel.figures.sweeps.plot` draws the rows.

    Args:
        name: See :func:`rows`.
        data: The data set.
        out: Folder of the trainings and of the table.
        seeds: Of each row.
        only: Tasks to keep.
        pairs, mmel: ``key=value`` for the recipes, see :func:`avel.experiments.spec.prepare`.
        options: See :class:`avel.experiments.reproduce.Options`.

    Returns:
        The table's rows.
    """
    folder, table_rows = Path(out), list[Json]()
    cells = plan_sweep(name, only, pairs=pairs, mmel=mmel)
    for results in carry_out(cells, data, out=folder, seeds=seeds, **options):
        table_rows = [line for result in results for line in _lines(name, result)]
        write_whole(folder / f"{name}.csv", table(table_rows))
    return table_rows


def _lines(name: str, result: RowResult) -> Iterator[Json]:
    """A row's numbers, a line each; none before it was trained."""
    if not result.outcomes:
        return
    row, first = result.row, result.outcomes[0].evaluation
    for metric in task_named(row.task).sweep_metrics:
        measured, last = result.measured(metric), result.beside(metric, "last")
        yield {
            "sweep": name,
            "row": row.name,
            "task": row.task,
            "metric": metric,
            "ours": round(100 * measured.mean, 2),
            "sd": "" if measured.sd is None else round(100 * measured.sd, 2),
            "n": len(measured.values),
            "last_epoch": round(100 * last.mean, 2) if last else "",
            "paper": row.values.get(metric, ""),
            "best_baseline": round(100 * max(first["baselines"].values()), 2),
            "epochs": result.training.recipe.epochs,
            "changed": pairs_text(result.changed()),
            "mmel_epochs": result.training.start.recipe.epochs if result.training.start else "",
            "setting": first["setting"],
            "background_clips": "" if (b := first["background_clips"]) is None else b,
            "data": first["data"],
            "simulated": first["simulated"],
            "clips": first["clips"],
            "selection": first["selection"].partition(";")[0],
            "fingerprint": first["fingerprint"][:12],
        }
