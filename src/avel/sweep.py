"""Sweeps: table V's ablations with a control, and fig. 5's lambdas, to a table and a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avel import papers, tasks
from avel.data.base import Dataset
from avel.errors import UsageError, unknown_name
from avel.evaluation import table
from avel.files import whole, write_whole
from avel.papers import FIGURE_5, Row
from avel.reproduced import METRICS, Result
from avel.reproduction import Note, carry_out, plan
from avel.types import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL = "cspa_csea"
#: Ours, beside table V's six rows: raw audio and the mean over regions, no co-attention at all.
CONTROL = "neither module (ours)"
SWEEPS = ("table5", *FIGURE_5)
#: What a panel of the plot is called, by metric or task.
PANELS = {
    "a2v": "CML, A2V", "v2a": "CML, V2A", "mean_accuracy": "CML, mean of both", "sel": "SEL",
    "wsel": "WSEL",
}  # fmt: skip
_LOOKED = "best answer that looks at nothing"


def rows(name: str, only: Sequence[str] = ()) -> list[Row]:
    """What a sweep trains.

    Args:
        name: ``"table5"``, ``"lambda_s"``, ``"lambda_w"`` or ``"lambda_c"``.
        only: Tasks to keep; all if empty.

    Raises:
        UsageError: for an unknown sweep, or tasks that leave nothing.
    """
    if name not in SWEEPS:
        raise unknown_name("sweep", name, SWEEPS)
    printed = papers.tables()
    if name == "table5":
        own = [Row("", name, CONTROL, MODEL, task, {"modules": "none"}) for task in tasks.TASKS]
        found = [*printed["xue2021:V"], *own]
    else:
        found = [row for row in printed["xue2021:fig5"] if name in row.options]
    kept = [row for row in found if not only or row.task in only]
    if not kept:
        raise UsageError(
            f"sweep {name} has nothing for {', '.join(only)}",
            wanted=" or ".join(sorted({row.task for row in found})),
            do="leave the tasks out, or name another sweep",
        )
    return kept


def sweep(
    name: str,
    data: Dataset,
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    pairs: Sequence[str] = (),
    mmel: Sequence[str] = (),
    keep_state: bool = False,
    note: Note | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Json]:
    """Train every row of a sweep; what is done already is taken as it is.

    After each training ``OUT/NAME.csv`` is written anew, so that a sweep which was stopped goes on
    where it was when it is called again; at the end ``OUT/NAME.png``.

    Args:
        name: See :func:`rows`.
        data: The data set.
        out: Folder of the trainings and of the table.
        seeds: Of each row.
        only: Tasks to keep.
        pairs, mmel: ``key=value`` for the recipes, see :func:`avel.trainings.prepare`.
        keep_state: Keep the states that training goes on from, several times a model's size.
        note: See :func:`avel.reproduction.reproduce`.
        progress: Called with a line before each training.

    Returns:
        The table's rows.
    """
    folder, found = Path(out), list[Json]()
    cells = plan({name: rows(name, only)}, pairs=pairs, mmel=mmel)
    for results in carry_out(
        cells, data, out=folder, seeds=seeds, keep_state=keep_state, note=note, progress=progress
    ):
        found = [line for result in results for line in _lines(name, result)]
        write_whole(folder / f"{name}.csv", table(found))
    plot(name, found, folder / f"{name}.png")
    return found


def _lines(name: str, result: Result) -> Iterator[Json]:
    """A row's numbers, a line each; none before it was trained."""
    if not result.outcomes:
        return
    row, first = result.row, result.outcomes[0].evaluation
    metrics = METRICS[row.task] if row.task == "cml" else METRICS[row.task][:1]
    for metric in metrics:
        ours = result.measured(metric)
        yield {
            "sweep": name,
            "row": row.name,
            "task": row.task,
            "metric": metric,
            "ours": round(100 * ours.mean, 2),
            "sd": "" if ours.sd is None else round(100 * ours.sd, 2),
            "n": len(ours.values),
            "paper": row.values.get(metric, ""),
            "trivial_best": round(100 * max(first["trivial"].values()), 2),
            "epochs": result.training.recipe.epochs,
            "changed": " ".join(f"{k}={v}" for k, v in result.changed().items()),
            "mmel_epochs": result.training.start.recipe.epochs if result.training.start else "",
            "setting": first["setting"],
            "background_clips": "" if (b := first["background_clips"]) is None else b,
            "data": first["data"],
            "simulated": first["simulated"],
            "clips": first["clips"],
            "selection": first["selection"].partition(";")[0],
            "fingerprint": first["fingerprint"][:12],
        }


def plot(name: str, found: Sequence[Json], path: Path) -> None:
    """Ours with error bars, the paper's beside it and the trivial answer, as a PNG.

    Bars in a panel a metric for table V, curves over the weight for the others.
    """
    from avel.figures.curves import lambda_curves
    from avel.figures.style import new_figure

    if name == "table5":
        figure = _panels(found)
    else:
        figure = new_figure(5.6, 4.2)
        lambda_curves(found, ax=figure.subplots())
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panels(found: Sequence[Json]) -> Figure:
    from avel.figures.style import new_figure

    panels = list(dict.fromkeys((r["task"], r["metric"]) for r in found))
    names = list(dict.fromkeys(r["row"] for r in found))
    figure = new_figure(2.6 + 2.7 * len(panels), 1.9 + 0.34 * len(names))
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, panel in zip(row, panels, strict=True):
        _bars(axes, [r for r in found if (r["task"], r["metric"]) == panel], names)
        axes.set_title(PANELS.get(panel[1], PANELS.get(panel[0], " ".join(panel))))
        axes.grid(alpha=0.3, axis="x")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(_title(found), fontsize="medium")
    return figure


def _title(found: Sequence[Json]) -> str:
    first = found[0]
    told = ", SIMULATED features (says nothing about AVE)" if first["simulated"] else ""
    epochs = sorted({int(r["epochs"]) for r in found})
    last = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return f"Table V (Xue et al. 2021), {last} epochs, n = {first['n']}\n{first['data']}{told}"


def _bars(axes: Axes, rows: Sequence[Json], names: Sequence[str]) -> None:
    """A horizontal bar a row, the first on top."""
    at = [names.index(r["row"]) for r in rows]
    error = [0.0 if r["sd"] == "" else r["sd"] for r in rows]
    axes.barh(at, [r["ours"] for r in rows], xerr=error if any(error) else None, height=0.6,
              color="#8fb8de",
              error_kw={"capsize": 3, "elinewidth": 1}, label="ours")  # fmt: skip
    known = [(r["paper"], i) for r, i in zip(rows, at, strict=True) if r["paper"] != ""]
    if known:
        axes.plot(*zip(*known, strict=True), "D", color="#b3261e", ms=5, label="paper (on AVE)")
    axes.axvline(rows[0]["trivial_best"], ls="--", color="0.3", lw=1, label=_LOOKED)
    axes.set_yticks(range(len(names)), [_readable(n) for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%)")


def _readable(row: str) -> str:
    """A row of table V in words."""
    words = {
        "(CSPA/aa)+CSEA": "CSPA+CSEA without audio attention",
        "CSPA+(CSEA/v2a)": "CSPA+CSEA without v2a",
        "CSPA+(CSEA/a2v)": "CSPA+CSEA without a2v",
    }
    return words.get(row, row)
