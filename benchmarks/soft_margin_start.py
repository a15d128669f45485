"""How soon systems begin to learn: soft-margin heads and JCA's form, before and after.

python benchmarks/soft_margin_start.py data/sim10 [--epochs 105] [--seeds 1] [--only NAME]

The data are simulated AVE whose training split is a tenth (`avel synth-features --scale 0.1`: 335
clips, validation and test whole). Every training has the same steps; its validation accuracy is
recorded as it goes, and the test accuracy is that of the epoch chosen on validation. What is done
is taken from results/soft_margin_start.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, machine

from avel.data.base import load_dataset
from avel.evaluation.evaluate import evaluate
from avel.evaluation.results import table
from avel.files import write_whole
from avel.training.loop import fit
from avel.training.recipes import resolve

CSV = RESULTS / "soft_margin_start.csv"
#: JCA at a quarter of its widths, so that a step takes as long as the others'.
NARROW = ["audio_out=128", "visual_out=128", "joint_out=256", "rows=128"]
#: Systems by name: the model, and what is changed of its recipe and options.
SYSTEMS: dict[str, tuple[str, list[str]]] = {
    "A+V-att (cross-entropy)": ("av", []),
    "CSPA+CSEA, bias near 0 (before)": ("cspa_csea", ["head_bias=zero"]),
    "CSPA+CSEA, bias -ln C": ("cspa_csea", []),
    "JCA any, not normalised, bias near 0 (before)": (
        "jca",
        [*NARROW, "head_bias=zero", "normalize=false"],
    ),
    "JCA any, normalised, bias -ln C, lr 3e-4": ("jca", [*NARROW, "lr=3e-4"]),
    "JCA any, normalised, bias -ln C, lr 1e-3": ("jca", [*NARROW, "lr=1e-3"]),
    "JCA any, normalised, bias -ln C, lr 1e-4": ("jca", [*NARROW, "lr=1e-4"]),
    "JCA printed form, bias -ln C, lr 3e-4": ("jca", [*NARROW, "form=paper", "lr=3e-4"]),
}


def run(name: str, data: Any, epochs: int, seed: int) -> list[dict[str, Any]]:
    """The curve of one training, a row every fifth epoch, and its test accuracy in the last."""
    model, changes = SYSTEMS[name]
    recipe = resolve(model, pairs=[f"epochs={epochs}", "batch=64", "validate_every=5", *changes])
    began, rows = time.perf_counter(), []
    steps = -(-len(data.train) // recipe.batch)

    def record(entry: dict[str, Any], _: int) -> None:
        if "segment_accuracy" in entry:
            rows.append({"system": name, "seed": seed, "step": entry["epoch"] * steps,
                         "loss": round(entry["loss"], 4),
                         "val": round(100 * entry["segment_accuracy"], 2)})  # fmt: skip

    made = fit(model, data, recipe=recipe, seed=seed, progress=record)
    test = evaluate(made)["segment_accuracy"].mean
    rows[-1] |= {"test": round(100 * test, 2), "best_epoch": made.best["epoch"],
                 "seconds": round(time.perf_counter() - began), **machine()}  # fmt: skip
    return rows


def plot(rows: list[dict[str, Any]]) -> None:
    """All curves of the first seed in one figure: docs/images/soft-margin-start.png."""
    from avel.figures.style import new_figure, save_figure

    figure = new_figure(7.2, 3.8)
    axes = figure.subplots()
    for name in dict.fromkeys(r["system"] for r in rows):
        curve = [(int(r["step"]), float(r["val"])) for r in rows if r["system"] == name]
        axes.plot(*zip(*curve, strict=True), "--" if "before" in name else "-", label=name)
    axes.set_xlabel("training steps of 64 clips")
    axes.set_ylabel("segment accuracy on validation (%)")
    axes.set_title("335 simulated training clips: says nothing about AVE", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, ROOT / "docs" / "images" / "soft-margin-start.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of simulated AVE at scale 0.1")
    parser.add_argument("--epochs", type=int, default=105)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names")
    parser.add_argument("--plot", action="store_true", help="only draw what is measured")
    given = parser.parse_args()
    if given.plot:
        with CSV.open(newline="", encoding="utf-8") as f:
            return plot([r for r in csv.DictReader(f) if r["seed"] == "0"])
    data = load_dataset("ave", root=given.root)
    rows: list[dict[str, Any]] = []
    if CSV.is_file():
        with CSV.open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    done = {(r["system"], int(r["seed"])) for r in rows}
    for seed in range(given.seeds):
        for name in SYSTEMS:
            if given.only in name and (name, seed) not in done:
                rows += run(name, data, given.epochs, seed)
                head = dict.fromkeys((k for row in rows for k in row), "")
                write_whole(CSV, table([{**head, **row} for row in rows]))
                print(
                    name, seed, rows[-1]["val"], rows[-1]["test"], rows[-1]["seconds"], flush=True
                )


if __name__ == "__main__":
    main()
