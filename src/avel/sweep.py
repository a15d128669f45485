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
    """Ours with error bars beside the paper's, a panel a sub-task; PNG."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((r["task"], r["metric"]) for r in rows))
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for axes, (task, metric) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        own = [r for r in rows if (r["task"], r["metric"]) == (task, metric)]
        _panel(axes, own, lines=name != "table5")
        axes.set_title(f"{task} {metric}" + (" (simulated)" if own[0]["simulated"] else ""))
        axes.set_ylabel("accuracy (%)")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _panel(axes: Axes, rows: Sequence[Json], *, lines: bool) -> None:
    at = list(range(len(rows)))
    names = [r["row"].partition("=")[2] if lines else r["row"] for r in rows]
    style = "o-" if lines else "o"
    error = [r["sd"] or 0.0 for r in rows]
    axes.errorbar(at, [r["ours"] for r in rows], yerr=error, fmt=style, capsize=3, label="ours")
    known = [i for i, r in enumerate(rows) if r["paper"] != ""]
    printed = [rows[i]["paper"] for i in known]
    axes.plot(known, printed, "s--" if lines else "s", color="grey", label="paper (AVE)")
    axes.set_xticks(at, names, rotation=0 if lines else 60, ha="center" if lines else "right")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
