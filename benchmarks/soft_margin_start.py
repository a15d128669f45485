"""How soon systems begin to learn: soft-margin heads and JCA's form, before and after.

python benchmarks/soft_margin_start.py data/sim10 [--epochs 105] [--seeds 1] [--only NAME]
    [--runs runs/soft_margin_start] [--csv results/soft_margin_start.csv]

The data are simulated AVE whose training split is a tenth (`avel synth-features --scale 0.1`: 335
clips, validation and test whole). Every training has the same steps; its validation accuracy is
recorded as it goes, and the test accuracy is that of the epoch chosen on validation. The same
command resumes: systems of as many steps are taken from the CSV, a training that was stopped goes
on from its folder in --runs. JCA has its other learning rates, its former and its printed form.
"""

from __future__ import annotations

import argparse
import csv
import re
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


def run(name: str, data: Any, epochs: int, seed: int, runs: Path) -> list[dict[str, Any]]:
    """The curve of one training, a row every fifth epoch, and its test accuracy in the last.

    The seconds are those of this call, whatever an earlier one trained.
    """
    model, changes = SYSTEMS[name]
    recipe = resolve(model, pairs=[f"epochs={epochs}", "batch=64", "validate_every=5", *changes])
    began = time.perf_counter()
    folder = runs / "_".join(filter(None, re.split(r"[^a-z0-9]+", name.lower()))) / f"seed-{seed}"
    made = fit(model, data, recipe=recipe, seed=seed, out=folder, resume=True)
    rows: list[dict[str, Any]] = [
        {"system": name, "seed": seed, "step": entry["epoch"] * steps_of(data),
         "loss": round(entry["loss"], 4), "val": round(100 * entry["segment_accuracy"], 2)}
        for entry in made.history if "segment_accuracy" in entry
    ]  # fmt: skip
    test = evaluate(made)["segment_accuracy"].mean
    rows[-1] |= {"test": round(100 * test, 2), "best_epoch": made.best["epoch"],
                 "seconds": round(time.perf_counter() - began), **machine()}  # fmt: skip
    return rows


def steps_of(data: Any) -> int:
    """Steps of an epoch."""
    return -(-len(data.train) // 64)


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
    axes.legend(fontsize=8, loc="center right")
    save_figure(figure, ROOT / "docs" / "images" / "soft-margin-start.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of simulated AVE at scale 0.1")
    parser.add_argument("--epochs", type=int, default=105)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names")
    parser.add_argument("--plot", action="store_true", help="only draw what is measured")
    parser.add_argument("--runs", type=Path, default=Path("runs/soft_margin_start"))
    parser.add_argument("--csv", type=Path, default=CSV)
    options = parser.parse_args()
    rows = read(options.csv)
    if options.plot:
        return plot([r for r in rows if r["seed"] == "0"])
    data = load_dataset("ave", root=options.root)
    last = options.epochs * steps_of(data)
    done = {(r["system"], int(r["seed"])) for r in rows if int(r["step"]) == last}
    for seed in range(options.seeds):
        for name in SYSTEMS:
            if options.only not in name or (name, seed) in done:
                continue
            others = [r for r in rows if (r["system"], int(r["seed"])) != (name, seed)]
            rows = others + run(name, data, options.epochs, seed, options.runs)
            head = dict.fromkeys((k for row in rows for k in row), "")
            write_whole(options.csv, table([{**head, **row} for row in rows]))
            print(name, seed, rows[-1]["val"], rows[-1]["test"], rows[-1]["seconds"], flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are measured already."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


if __name__ == "__main__":
    main()
