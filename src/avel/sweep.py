"""Sweeps: table V's ablations and fig. 5's lambdas (Xue et al. 2021) as recipes, to a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avel import tasks
from avel.checkpoint import WEIGHTS, load_model
from avel.data.base import Dataset, fingerprint
from avel.errors import UsageError, unknown_name
from avel.evaluation import Evaluation, evaluate, table
from avel.files import whole, write_whole
from avel.mmel import fit_cml, mmel_recipe
from avel.papers import FIGURE_5, LAMBDA_OF, TABLE_V
from avel.recipes import resolve, to_json
from avel.train import Run, fit
from avel.types import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL = "cspa_csea"
#: Ours, beside table V's six rows: raw audio and the mean over regions, no co-attention at all.
CONTROL = "neither module (ours)"
#: What a finished training was asked for, in its folder.
DONE = "done.json"
SWEEPS = ("table5", *FIGURE_5)
#: The four sub-tasks of table V: a task and its headline metric.
COLUMNS = (
    ("cml", "a2v"),
    ("cml", "v2a"),
    ("sel", "segment_accuracy"),
    ("wsel", "segment_accuracy"),
)
#: What a panel of the plot is called, by metric or task.
PANELS = {
    "a2v": "CML, A2V", "v2a": "CML, V2A", "mean_accuracy": "CML, mean of both", "sel": "SEL",
    "wsel": "WSEL",
}  # fmt: skip
_LOOKED = "best answer that looks at nothing"
_TASK_OF = {weight: task for task, weight in LAMBDA_OF.items()}


@dataclass(frozen=True)
class Cell:
    """One training of a sweep, for every seed.

    Args:
        row: Its name in the table.
        task: What is trained.
        options: The model options that make it what it is.
    """

    row: str
    task: str
    options: Mapping[str, Any]

    @property
    def place(self) -> Path:
        """Its folder below the sweep's."""
        kept = "".join(c if c.isalnum() or c in ".=_" else "-" for c in self.row)
        return Path(kept.strip("-")) / self.task


def cells(name: str, only: Sequence[str] = ()) -> list[Cell]:
    """The trainings of a sweep.

    Args:
        name: ``"table5"``, ``"lambda_s"``, ``"lambda_w"`` or ``"lambda_c"``.
        only: Tasks to keep; all if empty.

    Raises:
        UsageError: for an unknown sweep, or tasks that leave nothing.
    """
    if name not in SWEEPS:
        raise unknown_name("sweep", name, SWEEPS)
    if name == "table5":
        rows = {row: options for row, (options, _) in TABLE_V.items()}
        rows[CONTROL] = {"modules": "none"}
        found = [Cell(row, t, options) for row, options in rows.items() for t in tasks.TASKS]
    else:
        weights = [round(i / 10, 1) for i in range(11)]
        found = [Cell(f"{name}={w}", _TASK_OF[name], {name: w}) for w in weights]
    kept = [cell for cell in found if not only or cell.task in only]
    if not kept:
        raise UsageError(
            f"sweep {name} has nothing for {', '.join(only)}",
            wanted=" or ".join(sorted({cell.task for cell in found})),
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
    progress: Callable[[str], None] | None = None,
) -> list[Json]:
    """Train and judge every cell of a sweep; what is done already is judged only.

    After each cell ``OUT/NAME.csv`` is written anew, so that a sweep which was stopped goes on
    where it was when it is called again; at the end ``OUT/NAME.png``.

    Args:
        name: See :func:`cells`.
        data: The data set.
        out: Folder of the runs and of the table.
        seeds: Of each cell.
        only: Tasks to keep.
        pairs: ``key=value`` for every recipe of the sweep.
        mmel: The same for the models that CML starts from.
        keep_state: Keep the states that training goes on from, several times a model's size.
        progress: Called with a line before each training.

    Returns:
        The table's rows.
    """
    folder = Path(out)
    rows: list[Json] = []
    for cell in cells(name, only):
        runs = []
        for seed in seeds:
            if progress:
                progress(f"{cell.row}, {cell.task}, seed {seed}")
            runs.append(_run(cell, data, folder, seed, pairs, mmel))
        rows += list(_rows(name, cell, evaluate(runs), runs))
        write_whole(folder / f"{name}.csv", table(rows))
        if not keep_state:
            for state in (folder / cell.place).rglob("state.safetensors"):
                state.unlink()
    plot(name, rows, folder / f"{name}.png")
    if not keep_state:
        for state in (folder / "mmel").rglob("state.safetensors"):
            state.unlink()
    return rows


def _run(
    cell: Cell, data: Dataset, folder: Path, seed: int, pairs: Sequence[str], mmel: Sequence[str]
) -> Run:
    task: Any = cell.task
    recipe = resolve(MODEL, task, values=cell.options, pairs=pairs)
    place = folder / cell.place / f"seed-{seed}"
    done = place / DONE
    asked: Json = {"recipe": to_json(recipe), "mmel": list(mmel)}
    if done.is_file() and (place / WEIGHTS).is_file():
        return _finished(place, asked, data)
    rest: Json = {"recipe": recipe, "seed": seed, "out": place, "resume": True}
    if cell.task == "cml":  # cells whose structure is the same start from the same model
        first = mmel_recipe(MODEL, recipe, list(mmel))
        key = hashlib.sha256(json.dumps(to_json(first), sort_keys=True).encode()).hexdigest()[:8]
        start = folder / "mmel" / key / f"seed-{seed}"
        run = fit_cml(MODEL, data, mmel=first, mmel_out=start, **rest)
        asked["mmel_epochs"] = first.epochs
    else:
        run = fit(MODEL, data, task=task, **rest)
    write_whole(done, json.dumps(asked) + "\n")
    return run


def _finished(place: Path, asked: Json, data: Dataset) -> Run:
    """A training that is done, if it is the one that is asked for."""
    trained = load_model(place)
    found = json.loads((place / DONE).read_text("utf-8"))
    same = all(found.get(key) == value for key, value in asked.items())
    if not same or trained.card["data"]["fingerprint"] != fingerprint(data):
        raise UsageError(
            f"{place} holds a training on other data or with another recipe",
            do="give the sweep another folder",
        )
    return Run(trained, place, (), data)


def _rows(name: str, cell: Cell, found: Evaluation, runs: Sequence[Run]) -> Iterator[Json]:
    metrics = [m for t, m in COLUMNS if t == cell.task] + ["mean_accuracy"] * (cell.task == "cml")
    card = runs[0].trained.card
    for metric in metrics:
        ours = found[metric]
        yield {
            "sweep": name,
            "row": cell.row,
            "task": cell.task,
            "metric": metric,
            "ours": round(100 * ours.mean, 2),
            "sd": "" if ours.sd is None else round(100 * ours.sd, 2),
            "n": len(ours.values),
            "paper": "" if ours.paper is None else round(100 * ours.paper.value, 2),
            "trivial_best": round(100 * max(found.trivial.values()), 2),
            "epochs": card["recipe"]["epochs"],
            "mmel_epochs": _mmel_epochs(runs[0]),
            "setting": found.setting,
            "background_clips": "" if found.background_clips is None else found.background_clips,
            "data": found.data,
            "simulated": found.simulated,
            "clips": found.clips,
            "selection": card["metrics"]["selection"],
            "fingerprint": found.fingerprint[:12],
        }


def _mmel_epochs(run: Run) -> int | str:
    assert run.folder is not None
    found = json.loads((run.folder / DONE).read_text("utf-8"))
    return int(found["mmel_epochs"]) if "mmel_epochs" in found else ""


def plot(name: str, rows: Sequence[Json], path: Path) -> None:
    """Ours with error bars, the paper's beside it and the trivial answer; a panel a metric; PNG."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((r["task"], r["metric"]) for r in rows))
    bars = name == "table5"
    names = list(dict.fromkeys(r["row"] for r in rows))
    height = 1.9 + 0.34 * len(names) if bars else 3.7
    figure = Figure(figsize=(2.6 + 2.7 * len(panels), height), layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=bars)[0], panels, strict=True
    ):
        own = [r for r in rows if (r["task"], r["metric"]) == panel]
        (_bars if bars else _line)(axes, own, names)
        axes.set_title(PANELS.get(panel[1], PANELS.get(panel[0], " ".join(panel))))
        axes.grid(alpha=0.3, axis="x" if bars else "both")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(_title(name, rows), fontsize="medium")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _title(name: str, rows: Sequence[Json]) -> str:
    first = rows[0]
    what = "Table V" if name == "table5" else f"Fig. 5, {name}"
    told = ", SIMULATED features (says nothing about AVE)" if first["simulated"] else ""
    epochs = sorted({int(r["epochs"]) for r in rows})
    last = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return f"{what} (Xue et al. 2021), {last} epochs, n = {first['n']}\n{first['data']}{told}"


def _bars(axes: Axes, rows: Sequence[Json], names: Sequence[str]) -> None:
    """A horizontal bar a row, the first on top."""
    at = [names.index(r["row"]) for r in rows]
    error = [0.0 if r["sd"] == "" else r["sd"] for r in rows]
    axes.barh(at, [r["ours"] for r in rows], xerr=error, height=0.6, color="#8fb8de",
              error_kw={"capsize": 3, "elinewidth": 1}, label="ours")  # fmt: skip
    known = [(r["paper"], i) for r, i in zip(rows, at, strict=True) if r["paper"] != ""]
    if known:
        axes.plot(*zip(*known, strict=True), "D", color="#b3261e", ms=5, label="paper (on AVE)")
    axes.axvline(rows[0]["trivial_best"], ls="--", color="0.3", lw=1, label=_LOOKED)
    axes.set_yticks(range(len(names)), [_readable(n) for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%)")


def _line(axes: Axes, rows: Sequence[Json], names: Sequence[str]) -> None:
    """Over the weight that is swept."""
    at = [float(r["row"].partition("=")[2]) for r in rows]
    error = [0.0 if r["sd"] == "" else r["sd"] for r in rows]
    axes.errorbar(at, [r["ours"] for r in rows], yerr=error, fmt="o-", capsize=3, label="ours")
    known = [(x, r["paper"]) for r, x in zip(rows, at, strict=True) if r["paper"] != ""]
    if known:
        axes.plot(*zip(*known, strict=True), "D--", color="#b3261e", ms=4, label="paper (on AVE)")
    axes.axhline(rows[0]["trivial_best"], ls="--", color="0.3", lw=1, label=_LOOKED)
    axes.set_xlabel(names[0].partition("=")[0])
    axes.set_ylabel("accuracy (%)")


def _readable(row: str) -> str:
    """A row of table V in words."""
    words = {
        "(CSPA/aa)+CSEA": "CSPA+CSEA without audio attention",
        "CSPA+(CSEA/v2a)": "CSPA+CSEA without v2a",
        "CSPA+(CSEA/a2v)": "CSPA+CSEA without a2v",
    }
    return words.get(row, row)
