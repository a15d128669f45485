"""The figure of a sweep: table V's rows as bars, fig. 5's weights as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avel.figures.curves import lambda_curves, number_range
from avel.figures.style import new_figure, save_figure
from avel.types import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Titles of the panels, by metric or task.
PANELS = {
    "a2v": "CML, A2V", "v2a": "CML, V2A", "mean_accuracy": "CML, mean of both", "sel": "SEL",
    "wsel": "WSEL",
}  # fmt: skip
_BASELINE = "best baseline"


def plot(name: str, rows: Sequence[Json], path: Path) -> None:
    """Write our results with error bars, the paper's and the best baseline as a PNG.

    Table V has a panel of bars for each metric, the others have curves over the weight.

    Args:
        name: Of the sweep.
        rows: Of its table.
        path: The file.
    """
    if name == "table5":
        figure = _panels(rows)
    else:
        figure = new_figure(5.6, 4.2)
        lambda_curves(rows, ax=figure.subplots())
    save_figure(figure, path, dpi=150)


def _panels(rows: Sequence[Json]) -> Figure:
    panels = list(dict.fromkeys((r["task"], r["metric"]) for r in rows))
    names = list(dict.fromkeys(r["row"] for r in rows))
    figure = new_figure(2.6 + 2.7 * len(panels), 1.9 + 0.34 * len(names))
    axes_row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, panel in zip(axes_row, panels, strict=True):
        _bars(axes, [r for r in rows if (r["task"], r["metric"]) == panel], names)
        axes.set_title(PANELS.get(panel[1], PANELS.get(panel[0], " ".join(panel))))
        axes.grid(alpha=0.3, axis="x")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(_title(rows), fontsize="medium")
    return figure


def _title(rows: Sequence[Json]) -> str:
    first = rows[0]
    simulated = ", SIMULATED features (says nothing about AVE)" if first["simulated"] else ""
    epochs = number_range(sorted({int(r["epochs"]) for r in rows}))
    head = f"Table V (Xue et al. 2021), {epochs} epochs, n = {first['n']}"
    return f"{head}\n{first['data']}{simulated}"


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
    axes.axvline(rows[0]["best_baseline"], ls="--", color="0.3", lw=1, label=_BASELINE)
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
