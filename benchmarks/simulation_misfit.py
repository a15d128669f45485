"""What simulated AVE can tell: knobs fitted to four numbers of AVE, and the misfit on others.

python benchmarks/simulation_misfit.py LABELS [--fit STEPS] [--scale 1] [--seeds 1] [KEY=VALUE...]
    [--folder simulation_misfit]

LABELS holds AVE's Annotations.txt and order files. Four knobs are fitted to tian2018's table 1
alone: `likeness_audio` to A, `noise_visual` to V, `likeness_visual` to V-att and `shared` to A+V
(--fit: that many steps from the defaults, a secant for each knob; all points lie in
FOLDER/fit.csv). With the best point it then trains what no knob was fitted to, A+V-att, the weak
rows, CML and the accuracies by class of table S1, and prints the misfit: what the simulation can't
tell about AVE. The same command resumes where it stopped, in the midst of a training too.

Trainings have 2000 steps or more (epochs follow from the scale; most of CML's models have recipes
of their own). A smaller scale, or fewer epochs by KEY=VALUE (sel.epochs=2), is a trial, and the
table says so; results/simulation_misfit.csv is written at full scale and length alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine

from avel import papers
from avel.data.ave.simulate import simulate
from avel.data.ave.synth_features import Knobs
from avel.data.base import Dataset, load_dataset
from avel.evaluation.results import table
from avel.experiments.reproduce import carry_out, plan
from avel.experiments.result import RowResult
from avel.files import json_hash, write_whole
from avel.papers import BY_CLASS, SEGMENT, Row
from avel.tasks import task_named

#: The row of table 1 that each knob is fitted to, how many points the row gains from one more of
#: the knob where no two points say it yet, and the knob's range.
FITTED = {
    "likeness_audio": ("A", -120.0, (0.05, 1.0)),
    "noise_visual": ("V", -6.0, (0.3, 6.0)),
    "likeness_visual": ("V-att", -90.0, (0.05, 1.0)),
    "shared": ("A+V", -20.0, (0.0, 0.95)),
}
#: Steps that a table needs, and the points that a fit may be off.
STEPS, CLOSE = 2000, 1.0
#: A step of the fit moves a knob by this share of its range at most.
REACH = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path, help="AVE's text and order files")
    parser.add_argument("pairs", nargs="*", help="recipe fields, as for `avel reproduce`")
    parser.add_argument("--folder", type=Path, default=Path("simulation_misfit"))
    parser.add_argument("--fit", type=int, default=0, help="steps of the fit")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1, help="of every training")
    options = parser.parse_intermixed_args()
    began = time.perf_counter()
    knobs = fit(options) if options.fit else best(options)
    data, out = simulated(options, knobs)
    rows = [*fitted_rows(), *other_rows()]
    lines = misfit(trained(rows, data, out, options), data)
    steps = least_steps(rows, data, options)
    trial = options.scale < 1 or steps < STEPS
    print(text(lines, knobs, data, steps, trial=trial))
    path = options.folder / "misfit.csv" if trial else RESULTS / "simulation_misfit.csv"
    shown = {"knobs": json.dumps({k: round(getattr(knobs, k), 4) for k in FITTED}),
             "scale": options.scale, "seeds": options.seeds, "least_steps": steps,
             "seconds_of_this_call": round(time.perf_counter() - began), **machine()}  # fmt: skip
    write_whole(path, table([{**line, **shown} for line in lines]))
    print(path)


# ---- rows


def fitted_rows() -> list[Row]:
    """A, V, V-att and A+V, supervised."""
    names = {name for name, *_ in FITTED.values()}
    return [row for row in papers.tables()["tian2018:1"] if row.name in names]


def other_rows() -> list[Row]:
    """What nothing is fitted to: table 1's other rows, CML of three papers, S1 without C3D."""
    names = {name for name, *_ in FITTED.values()}
    printed = papers.tables()
    plain = [row for row in printed["tian2018:S1"] if "c3d" not in row.options["inputs"]]
    rest = [row for row in printed["tian2018:1"] if row.name not in names]
    return [*rest, *printed["xue2021:II"], *plain]


# ---- data and trainings


def simulated(options: argparse.Namespace, knobs: Knobs) -> tuple[Dataset, Path]:
    """The data set of some knobs, simulated where it isn't there, and its trainings' folder."""
    key = json_hash([asdict(knobs), options.scale])[:10]
    root, complete = options.folder / key / "data", options.folder / key / "simulated"
    if not complete.is_file():
        for earlier in options.folder.glob("*/simulated"):  # 9 GB each
            shutil.rmtree(earlier.parent / "data", ignore_errors=True)
            earlier.unlink()
        simulate(root, labels=options.labels, scale=options.scale, knobs=knobs)
        write_whole(complete, "")
    return load_dataset("ave", root=root), options.folder / key / "runs"


def recipe_pairs(data: Dataset, options: argparse.Namespace) -> list[str]:
    """Epochs of 2000 steps of 64 clips, and what the caller changes."""
    epochs = math.ceil(STEPS / math.ceil(len(data.train) / 64))
    own = [f"sel.epochs={epochs}", f"wsel.epochs={epochs}", f"dam.epochs={epochs}"]
    return [*own, *options.pairs]


def trained(
    rows: Sequence[Row], data: Dataset, out: Path, options: argparse.Namespace
) -> tuple[RowResult, ...]:
    """The rows' outcomes; what is done already is taken as it is."""
    pairs = recipe_pairs(data, options)
    tasks = {row.task for row in rows} | {row.model for row in rows}
    pairs = [p for p in pairs if "." not in p.partition("=")[0] or p.partition(".")[0] in tasks]
    of_sel = dict(p.removeprefix("sel.").split("=", 1) for p in pairs if p.startswith("sel."))
    mmel = [f"{key}={value}" for key, value in of_sel.items()]
    cells = plan({"misfit": list(rows)}, pairs=pairs, mmel=mmel if "cml" in tasks else ())
    states = carry_out(
        cells, data, out=out, seeds=range(options.seeds), progress=lambda s: print(s, flush=True)
    )
    return list(states)[-1]


def least_steps(rows: Sequence[Row], data: Dataset, options: argparse.Namespace) -> int:
    """The fewest steps of a training of SEL or WSEL."""
    rows = [row for row in rows if task_named(row.task).classifies]
    tasks = {row.task for row in rows} | {row.model for row in rows}
    pairs = [p for p in recipe_pairs(data, options) if p.partition(".")[0] in tasks]
    cells = plan({"misfit": rows}, pairs=pairs)
    recipes = [cell.training.recipe for cell in cells]
    return min(r.epochs * math.ceil(len(data.train) / r.batch) for r in recipes)


# ---- the fit


def fit(options: argparse.Namespace) -> Knobs:
    """Steps of a secant for each knob; every point that was trained lies in FOLDER/fit.csv."""
    knobs = Knobs()
    for step in range(options.fit):
        points = read_points(options)
        if step < len(points):
            continue
        knobs = next_knobs(points)
        data, out = simulated(options, knobs)
        scores = {r.row.name: 100 * r.measured(SEGMENT).mean
                  for r in trained(fitted_rows(), data, out, options)}  # fmt: skip
        point = {**{k: getattr(knobs, k) for k in FITTED}, **scores}
        print(f"step {step}: {point}", flush=True)
        write_whole(options.folder / "fit.csv", table([*points, point]))
        if error([point]) <= CLOSE:
            break
    return best(options)


def read_points(options: argparse.Namespace) -> list[dict[str, float]]:
    """The points of the fit so far."""
    path = options.folder / "fit.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(f)]


def best(options: argparse.Namespace) -> Knobs:
    """The knobs of the fit's best point, the defaults where there is none."""
    points = read_points(options)
    if not points:
        return Knobs()
    point = min(points, key=lambda p: error([p]))
    return replace(Knobs(), **{k: point[k] for k in FITTED})


def targets() -> dict[str, float]:
    """What the paper prints for the fitted rows, in percent."""
    return {row.name: row.values[SEGMENT] for row in fitted_rows()}


def error(points: Iterable[dict[str, float]]) -> float:
    """The largest difference of a fitted row to the paper."""
    return max(abs(p[name] - value) for p in points for name, value in targets().items())


def next_knobs(points: Sequence[dict[str, float]]) -> Knobs:
    """The defaults at first, then each knob by its own slope, each by a short way at most."""
    if not points:
        return Knobs()
    moved: dict[str, Any] = {}
    last = points[-1]
    for knob, (row, slope, (least, most)) in FITTED.items():
        if len(points) > 1 and abs(last[knob] - points[-2][knob]) > 1e-6:
            found = (last[row] - points[-2][row]) / (last[knob] - points[-2][knob])
            slope = found if found * slope > 0 and 0.2 < found / slope < 5 else slope
        reach = REACH * (most - least)
        way = float(np.clip((targets()[row] - last[row]) / slope, -reach, reach))
        moved[knob] = float(np.clip(last[knob] + way, least, most))
    return replace(Knobs(), **moved)


# ---- the misfit


def misfit(results: Sequence[RowResult], data: Dataset) -> list[dict[str, Any]]:
    """A line for each printed number; of table S1 one for each row."""
    lines = []
    names = {name for name, *_ in FITTED.values()}
    for result in results:
        row = result.row
        if row.table == "S1":
            lines.append(by_class(result, data))
            continue
        for metric, value in row.values.items():
            ours = result.measured(metric)
            fitted = row.table == "1" and row.name in names
            lines.append({
                "group": "fitted" if fitted else "not fitted", "table": f"{row.paper}:{row.table}",
                "row": row.name, "task": row.task, "metric": metric, "paper": value,
                "simulated": round(100 * ours.mean, 2),
                "sd": "" if ours.sd is None else round(100 * ours.sd, 2),
                "difference": round(100 * ours.mean - value, 2),
            })  # fmt: skip
    return lines


def by_class(result: RowResult, data: Dataset) -> dict[str, Any]:
    """Table S1: mean absolute difference over the classes, and the correlation with the paper."""
    printed = np.array(list(result.row.values.values()))
    ours = np.array([100 * result.measured(m, data.classes).mean for m in result.row.values])
    assert all(m.startswith(BY_CLASS) for m in result.row.values)
    correlation = float(np.corrcoef(printed, ours)[0, 1])
    return {
        "group": "not fitted", "table": "tian2018:S1", "row": result.row.name,
        "task": result.row.task, "metric": f"28 classes, correlation {correlation:.2f}",
        "paper": round(float(printed.mean()), 2), "simulated": round(float(ours.mean()), 2),
        "sd": "", "difference": round(float(np.abs(printed - ours).mean()), 2),
    }  # fmt: skip


def text(
    lines: Sequence[dict[str, Any]], knobs: Knobs, data: Dataset, steps: int, *, trial: bool
) -> str:
    """The table as a person reads it."""
    values = ", ".join(f"{k} {getattr(knobs, k):.3g}" for k in FITTED)
    head = f"SIMULATED AVE, {len(data.train)} training clips, {steps} steps or more; {values}"
    parts = [head]
    if trial:
        parts.append(f"A TRIAL: results need scale 1 and {STEPS} steps, so these are none.")
    titles = {
        "fitted": "The knobs are fitted to these rows, so they agree by construction:",
        "not fitted": "Nothing is fitted to these rows. The misfit is what the simulation can't "
        "tell about AVE (S1: the mean absolute difference over the classes):",
    }
    for group, title in titles.items():
        parts.append(f"\n{title}\n{'':24}{'task':6}{'metric':32}{'paper':>7}{'ours':>7}{'off':>8}")
        parts += [
            f"{line['row']:24}{line['task']:6}{line['metric']:32}{line['paper']:7.1f}"
            f"{line['simulated']:7.1f}{line['difference']:+8.1f}"
            for line in lines if line["group"] == group
        ]  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    main()
