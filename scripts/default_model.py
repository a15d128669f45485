"""Train the candidates for the toy `toybox` and ship the best; results/toybox.csv and default.csv.

    avel synth data/toybox --clips 700 --seed 1
    avel synth data/pairs10 --pairs pairs10 --sounds SOUNDS --images IMAGES
    avel extract data/toybox data/pairs10          # and `avel pack` each, to start at once
    python scripts/default_model.py data/toybox data/pairs10
    python scripts/default_model.py --page         # the table of docs/results.md

CSPA+CSEA is trained on Toybox, on Pairs-10, and on both together (20 classes), and judged on a mix
of both, over the classes of both: what a model doesn't know it can't get right. The run with the
best event F1 (IoU 0.5) on the validation clips of both becomes the package's `toybox`;
the test clips' mix is printed beside. On Toybox it is trained with each modality alone besides.

Every epoch is chosen on the validation clips of what was trained on. Called again it goes on where
it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import TypeAlias

import numpy as np

from avel.data import Dataset, load_dataset
from avel.data.base import Split
from avel.data.concat import join, relabel
from avel.data.resident import resident
from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.memory import keep_memory
from avel.tasks import task_named
from avel.tasks.sel import segment_metrics
from avel.training.loop import fit
from avel.training.recipes import resolve
from avel.types import Json

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = {
    "CSPA+CSEA": "both",
    "CSPA+CSEA, audio only": "audio",
    "CSPA+CSEA, picture only": "visual",
}
#: What docs/results.md calls the data sets.
CALLED = {"toybox": "Toybox", "pairs10": "Pairs-10", "toybox+pairs10": "both"}
#: A quarter and a half of the paper's widths: the minis' features are a quarter as wide.
SIZE = {"hidden": 128, "state": 64}
#: Rows of a table, and the run that ships.
Made: TypeAlias = tuple[list[Json], Trained]
#: What the best is told by.
CHOSEN_BY = "event_f1_0.5"


def train(data: Dataset, *, modality: str, seed: int, out: Path, values: Json) -> Trained:
    """A run, gone on with where it stopped; one of other data or another recipe is refused."""
    folder = out / data.name / f"{modality}-{seed}"
    recipe = resolve("cspa_csea", "sel", values={**values, "modality": modality})
    return fit("cspa_csea", data, seed=seed, recipe=recipe, out=folder, resume=True).trained


def judge(trained: Trained, split: Split, classes: tuple[str, ...]) -> dict[str, float]:
    """Every metric of a run on clips over ``classes``, its own among them."""
    labels, _ = task_named("sel").predictor(trained.network, resident(split))(split)
    ids = np.array([*(classes.index(c) for c in trained.classes), len(classes)])
    return segment_metrics(ids[labels], split.labels, len(classes))


def rounded(metrics: dict[str, float]) -> Json:
    """For a CSV: shares, the boundary error in seconds."""
    return {k: round(v, 4) for k, v in metrics.items()}


def toybox(data: Dataset, *, seeds: int, out: Path, values: Json) -> list[Json]:
    """Rows of results/toybox.csv: both modality, each alone, and the baselines."""
    rows: list[Json] = []
    for system, modality in SYSTEMS.items():
        own = []
        for seed in range(seeds):
            trained = train(data, modality=modality, seed=seed, out=out, values=values)
            found = judge(trained, data.test, data.classes)
            best = trained.card["metrics"]
            head = {
                "system": system, "seed": seed, "epochs": values["epochs"], "epoch": best["epoch"],
                "val_segment_accuracy": round(best["value"], 4),
            }  # fmt: skip
            rows.append({**head, **rounded(found)})
            own.append(100 * found["segment_accuracy"])
        print(f"{system}: {told(own)}", flush=True)
    for name, value in task_named("sel").baselines(data.test, len(data.classes)).items():
        rows.append({"system": f"baseline: {name}", "segment_accuracy": round(value, 4)})
    head = dict.fromkeys(rows[0], "")
    return [{**head, **row} for row in rows]


def candidates(parts: Sequence[Dataset], *, seeds: int, out: Path, values: Json) -> Made:
    """Rows of results/default.csv, and the run that is the best on validation."""
    joint, rows = join(parts), list[Json]()
    best: tuple[float, Trained] | None = None
    mixes = {d.name: d for d in (joint, *(relabel(part, joint.classes) for part in parts))}
    for data in (*parts, joint):
        for seed in range(seeds):
            trained = train(data, modality="both", seed=seed, out=out, values=values)
            head = {
                "trained_on": data.name, "classes": len(data.classes), "seed": seed,
                "epochs": values["epochs"], "epoch": trained.card["metrics"]["epoch"],
            }  # fmt: skip
            for split, (judged, own) in product(("val", "test"), mixes.items()):
                found = judge(trained, own.splits[split], joint.classes)
                rows.append({**head, "evaluated_on": judged, "split": split,
                             "clips": len(own.splits[split]), **rounded(found)})  # fmt: skip
                value = rounded(found)[CHOSEN_BY]
                print(data.name, seed, "on", judged, split, f"{100 * value:.1f}", flush=True)
                if (split, judged) == ("val", joint.name) and (best is None or value > best[0]):
                    best = value, trained
    assert best is not None
    return rows, best[1]


def page(rows: Sequence[dict[str, str]]) -> str:
    """The table of docs/results.md: event F1 on test clips, by training data and test data."""
    judged = list(dict.fromkeys(r["evaluated_on"] for r in rows))
    order = sorted(judged, key=lambda name: "+" in name)  # the mix last
    lines = [["trained on", "classes", *(f"on {CALLED.get(name, name)}" for name in order)]]
    lines.append(["---"] * len(lines[0]))
    for trained in dict.fromkeys(r["trained_on"] for r in rows):
        own = [r for r in rows if (r["trained_on"], r["split"]) == (trained, "test")]
        cells = [
            told([100 * float(r[CHOSEN_BY]) for r in own if r["evaluated_on"] == n]) for n in order
        ]
        lines.append([CALLED.get(trained, trained), own[0]["classes"], *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(values: Sequence[float]) -> str:
    """Mean ± standard deviation (n = seeds)."""
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread} (n = {len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("toybox", type=Path, nargs="?")
    parser.add_argument("pairs", type=Path, nargs="?")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/default"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--toybox-model", type=Path, default=ROOT / "src/avel/pretrained/toybox")
    given = parser.parse_args()
    if given.page:
        print(page(read_rows(given.results / "default.csv")))
        return
    if given.pairs is None:
        parser.error("name both data sets")
    keep_memory()
    parts = [load_dataset("folder", root=root) for root in (given.toybox, given.pairs)]
    how: Json = {"seeds": given.seeds, "out": given.out,
                 "values": {**SIZE, "epochs": given.epochs, "batch": given.batch}}  # fmt: skip
    rows, best = candidates(parts, **how)
    write_whole(given.results / "default.csv", table(rows))
    best.save(given.toybox_model, dtype="float16")
    print("ships:", best.card["data"]["name"], "seed", best.card["seed"], flush=True)
    write_whole(given.results / "toybox.csv", table(toybox(parts[0], **how)))


if __name__ == "__main__":
    main()
