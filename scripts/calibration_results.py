"""Measure what `avel tune` does to calibration and events: results/calibration.csv and its table.

    avel synth data/pairs10 --pairs pairs10 --sounds DIR --images DIR
    avel extract data/pairs10 --audio mini_audio --visual mini_visual
    avel synth-features data/tenth --labels LABELS --scale 0.1
    python scripts/calibration_results.py pairs10=data/pairs10 simulated_ave=data/tenth
    python scripts/calibration_results.py --table  # docs/post-processing.md's table, from the CSV

CSPA+CSEA and A+V-att, task sel, few epochs; epoch, temperature and decision are chosen on
validation. `before` is the paper's decision on the probabilities as the model gives them, `after`
what was chosen, both on the test split. The figures pool the seeds' test segments.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avel.data import Dataset, load_dataset
from avel.evaluation import calibration, tuning
from avel.evaluation.inputs import choose_split
from avel.evaluation.tuning import SplitScores
from avel.figures.reliability import reliability_diagram
from avel.figures.style import new_figure, save_figure
from avel.files import whole
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision
from avel.memory import keep_memory
from avel.training.loop import fit
from avel.training.recipes import resolve

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "calibration.csv"
Row = dict[str, Any]
#: Data by the name they are given under: what loads them, and what of the recipe they change.
DATA: dict[str, tuple[str, Row]] = {
    "pairs10": ("folder", {"epochs": 10, "batch": 16, "hidden": 128, "state": 64}),
    "simulated_ave": ("ave", {"epochs": 15, "batch": 16}),
}
SYSTEMS: dict[str, tuple[str, Row]] = {
    "CSPA+CSEA": ("cspa_csea", {}),
    "A+V-att": ("av", {"inputs": "a+v-att"}),
}
FIGURE = "CSPA+CSEA"  # the system that is drawn
TOLD = {"pairs10": "Pairs-10", "simulated_ave": "simulated AVE, a tenth"}
#: The table's columns: metric, heading, times what, decimals.
COLUMNS = (
    ("ece", "ECE, %", 100, 1), ("nll", "NLL, nats", 1, 3), ("brier", "Brier", 1, 3),
    ("event_f1", "event F1, %", 100, 1),
)  # fmt: skip


def train(data: Dataset, system: str, changed: Row, *, seed: int, out: Path) -> Trained:
    """A run, gone on with where it stopped; one of other data or another recipe is refused."""
    model, options = SYSTEMS[system]
    recipe = resolve(model, "sel", values={**changed, **options})
    return fit(model, data, seed=seed, recipe=recipe, out=out, resume=True).trained


def measure(held: SplitScores, decision: Decision, names: Sequence[str], step: float) -> Row:
    """What the table shows, of a split under a decision."""
    soft = held.softened(decision.temperature)
    return {
        "ece": calibration.reliability(soft.values, soft.truth).ece,
        "nll": calibration.negative_log_likelihood(soft.values, soft.truth),
        "brier": calibration.brier(soft.values, soft.truth),
        "event_f1": tuning.event_f1(soft, decision, names, step=step),
    }


def judge(run: Trained, data: Dataset) -> tuple[Row, SplitScores, SplitScores]:
    """A run's row, and its answers on test before and after."""
    names, step = run.classes, run.step
    val, test = (
        tuning.split_scores(run, choose_split(data, "sel", name, len(names)))
        for name in ("val", "test")
    )
    decision = tuning.choose(val, names, step=step)
    before, after = (measure(test, d, names, step) for d in (Decision(), decision))
    rule = decision.rule
    row = {
        "temperature": decision.temperature,
        "threshold": "paper's" if rule.threshold is None else rule.threshold,
        "low_threshold": rule.low_threshold, "max_gap": rule.max_gap,
        "min_duration": rule.min_duration,
        "own_thresholds": len(decision.classes), "segments": int((test.truth >= 0).sum()),
    }  # fmt: skip
    for metric, *_ in COLUMNS:
        row |= {f"{metric}_before": before[metric], f"{metric}_after": after[metric]}
    return row, test, test.softened(decision.temperature)


def measured(name: str, data: Dataset, given: argparse.Namespace) -> Iterator[Row]:
    """A row for each system and seed of a data set; draws the figure."""
    _, changed = DATA[name]
    for system in SYSTEMS:
        drawn: list[tuple[SplitScores, SplitScores]] = []
        for seed in range(given.seeds):
            out = given.out / name / SYSTEMS[system][0] / str(seed)
            run = train(data, system, changed, seed=seed, out=out)
            row, *both = judge(run, data)
            drawn.append((both[0], both[1]))
            best = {"epochs": changed["epochs"], "epoch": run.card["metrics"]["epoch"]}
            print(name, system, seed, row, flush=True)
            yield {"data": name, "system": system, "seed": seed, **best, **row}
        if system == FIGURE:
            draw(name, system, drawn, given.images / f"reliability-{name.replace('_', '-')}.png")


def draw(
    name: str, system: str, drawn: Sequence[tuple[SplitScores, SplitScores]], path: Path
) -> None:
    """Reliability on test, all seeds' segments together."""
    before, after = (
        calibration.reliability(
            np.concatenate([a.values for a in one]), np.concatenate([a.truth for a in one])
        )
        for one in zip(*drawn, strict=True)
    )
    figure = new_figure(4.2, 4.0)
    title = f"{system} on {TOLD[name]}: test, {len(drawn)} seeds"
    reliability_diagram(before, after, title=title, ax=figure.add_subplot())
    save_figure(figure, path)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Mean and sd over the seeds, before and after, as docs/post-processing.md shows them."""
    head = ["system", "data", "", *(heading for _, heading, *_ in COLUMNS)]
    lines = [head, ["---"] * len(head)]
    for name, system in dict.fromkeys((r["data"], r["system"]) for r in rows):
        own = [r for r in rows if (r["data"], r["system"]) == (name, system)]
        for when in ("before", "after"):
            cells = [cell(own, f"{metric}_{when}", *rest) for metric, _, *rest in COLUMNS]
            first = [system, TOLD[name]] if when == "before" else ["", ""]
            lines.append([*first, when, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(rows: Sequence[dict[str, str]], column: str, times: float, decimals: int) -> str:
    """Mean ± sd of a column."""
    values = [times * float(r[column]) for r in rows]
    sd = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{decimals}f}{sd}"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows, rounded."""
    with whole(path) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", help="pairs10=DIR, simulated_ave=DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--table", action="store_true", help="only print the CSV's table")
    given = parser.parse_args()
    if not given.table:
        keep_memory()
        rows: list[Row] = []
        for pair in given.data:
            name, _, root = pair.partition("=")
            if name not in DATA or not root:
                parser.error(f"{pair}: expected {' or '.join(DATA)}, = and a folder")
            rows += measured(name, load_dataset(DATA[name][0], root=root), given)
        if not rows:
            parser.error("no data named")
        write(rows, given.csv)
    print(table(read(given.csv)))


if __name__ == "__main__":
    main()
