"""What each part of our own model gives: variants trained alike, scored on the validation clips.

    python scripts/evidence_ablation.py data/pairs10-256 --seeds 1

Writes results/evidence_ablation.csv and the table of docs/our-model.md. Designs are compared on
validation, never on test. Late sound is the validation clips' own, its features so many segments
later with zeros before them, the truth on the picture's clock; a lost track is zeros. Called again,
only what is missing is trained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from avel.data import load_dataset
from avel.data.base import Split
from avel.data.resident import resident
from avel.evaluation.results import table
from avel.figures.curves import read_rows
from avel.files import write_whole
from avel.inference.checkpoint import Trained
from avel.training.loop import fit
from avel.training.recipes import resolve
from avel.types import Json
from pairs_results import put
from pairs_robustness import judge

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = "evidence_ablation.csv", ROOT / "docs" / "our-model.md"
EPOCHS = 12
#: Variants: the model, and what differs from its default.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "as it is": ("evidence", ()),
    "a sum in place of the soft AND": ("evidence", ("joint=sum",)),
    "no lag": ("evidence", ("reach=0",)),
    "no sounds moved in training": ("evidence", ("shift=0",)),
    "no tracks lost in training": ("evidence", ("lost=0",)),
    "no mismatched pairs": ("evidence", ("mismatch=0",)),
    "no gate": ("evidence", ("gate=false",)),
    "no context": ("evidence", ("context=false",)),
    "no averaged weights": ("evidence", ("average=0",)),
    "A+V-att": ("av", ("hidden=128", "state=64", "batch=16")),
    "DMRN": ("av", ("fusion=dmrn", "hidden=128", "state=64", "batch=16")),
    "A+V, audio only": ("av", ("inputs=a", "hidden=128", "state=64", "batch=16")),
    "A+V, picture only": ("av", ("inputs=v", "hidden=128", "state=64", "batch=16")),
}
CONDITIONS = ("aligned", "late 1", "late 2", "late 3", "no sound", "no picture")


def conditions(split: Split) -> Iterator[tuple[str, Split]]:
    """The clips as they are, with late sound, and with a lost track."""
    audio = np.asarray(split.audio[split.store_rows], np.float32)
    visual = np.asarray(split.visual[split.store_rows])
    for name in CONDITIONS:
        heard, shown = audio, visual
        if name.startswith("late"):
            late = int(name.split()[1])
            heard = np.concatenate([np.zeros_like(audio[:, :late]), audio[:, :-late]], 1)
        elif name == "no sound":
            heard = np.zeros_like(audio)
        elif name == "no picture":
            shown = np.zeros_like(visual)
        yield name, replace(split, audio=heard, visual=shown, rows=None)


def scores(trained: Trained, split: Split) -> Json:
    """Segment accuracy under each condition, in percent."""
    return {
        name: round(100 * judge(trained, resident(clips))["segment_accuracy"], 2)
        for name, clips in conditions(split)
    }


def ablation_table(rows: list[dict[str, str]]) -> str:
    """The rows as the docs show them: mean, and standard deviation over several seeds."""
    lines = [f"| variant | {' | '.join(CONDITIONS)} |", "|---" * (len(CONDITIONS) + 1) + "|"]
    for name in VARIANTS:
        own = [r for r in rows if r["variant"] == name]
        if own:
            cells = [_cell([float(r[c]) for r in own]) for c in CONDITIONS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    given = parser.parse_args()
    path = given.results / RESULTS
    rows = read_rows(path) if path.is_file() else []
    data = load_dataset("folder", root=given.data)
    for seed in range(given.seeds):
        for name, (model, pairs) in VARIANTS.items():
            if any((r["variant"], r["seed"]) == (name, str(seed)) for r in rows):
                continue
            start = time.perf_counter()
            recipe = resolve(model, pairs=[f"epochs={EPOCHS}", *pairs])
            run = fit(model, data, seed=seed, recipe=recipe)
            row = {
                "variant": name, "model": model, "options": " ".join(pairs), "seed": seed,
                "epochs": EPOCHS, "selected": run.best["epoch"], "clips": len(data.val),
                **scores(run.trained, data.val), "seconds": round(time.perf_counter() - start),
            }  # fmt: skip
            rows.append({k: str(v) for k, v in row.items()})
            write_whole(path, table(rows))
            print(row, flush=True)
    write_whole(PAGE, put(PAGE.read_text("utf-8"), "ablation", ablation_table(rows)))


if __name__ == "__main__":
    main()
