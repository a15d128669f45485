"""Simulated AVE at full scale, from nothing to trained models: time and peak memory by step.

    python benchmarks/full_scale.py FOLDER --labels ../shared/ave

FOLDER gets 8.3 GB of simulated features, a float16 store of 2.1 GB, and the runs; what is
there is kept and not measured again.
Writes results/full_scale.csv (every step's seconds and peak resident memory) and
results/full_scale_scores.csv (what the runs score on test; simulated features, one seed).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import RESULTS, machine, write_csv

from avel.files import whole

AVEL = [sys.executable, "-m", "avel"]


def measured(step: str, command: list[str]) -> dict[str, object]:
    """Run a command; its seconds, processor seconds and peak resident memory in MB."""
    print(step, "…", flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{step}: {' '.join(command)} ended with status {status}")
    row: dict[str, object] = {
        "step": step,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    features, runs = given.folder / "features", given.folder / "runs"
    rows = []
    if not (features / "SIMULATED.json").is_file():
        simulate = [*AVEL, "synth-features", str(features), "--labels", str(given.labels)]
        rows.append(measured("synth-features, 8.3 GB of float64", simulate))
    load = f"from avel.data import load_dataset; load_dataset('ave', root={str(features)!r})"
    rows.append(measured("conversion to the float16 store", [sys.executable, "-c", load]))
    rows.append(measured("opening the store again", [sys.executable, "-c", load]))
    data = ["data=ave", f"root={features}"]
    half = max(1, given.epochs * 2 // 3)
    kinds = {
        "sel": ["task=sel", f"epochs={given.epochs}"],
        "wsel": ["task=wsel", f"epochs={given.epochs}"],
        "cml-paired": ["task=cml", f"epochs={half}", f"mmel.epochs={half}"],
        "cml-unpaired": ["task=cml", "form=unpaired", f"epochs={half}", f"mmel.epochs={half}"],
    }
    for name, recipe in kinds.items():
        if not (runs / name / "card.json").is_file():
            train = [*AVEL, "train", "cspa_csea", *data, *recipe, "-o", str(runs / name)]
            rows.append(measured(f"train {name}: {' '.join(recipe)}", train))
    where = {"threads": torch.get_num_threads()} | machine()
    rows = [row | where for row in rows]
    write_csv(RESULTS / "full_scale.csv", rows, beside=True, case=("step",))
    table = RESULTS / "full_scale_scores.csv"
    for i, name in enumerate(kinds):
        own = given.folder / f"scores-{i}.csv"
        command = [*AVEL, "evaluate", str(runs / name), *data, "-o", str(own)]
        subprocess.run(command, check=True)
    parts = [(given.folder / f"scores-{i}.csv").read_text().splitlines() for i in range(len(kinds))]
    with whole(table) as temporary:
        lines = [f"run,{parts[0][0]}"]
        lines += [f"{n},{line}" for n, part in zip(kinds, parts, strict=True) for line in part[1:]]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
