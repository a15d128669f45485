"""Train CSPA + CSEA on Toybox with both senses and with each alone; write results/toybox.csv.

    avel synth data/toybox --clips 1500 --seed 1
    avel extract data/toybox
    python scripts/toybox_results.py data/toybox           # three seeds, and the default model

Every epoch is chosen on validation. The run of the first seed with both senses becomes the default
model that ships in the package.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

from avel import tasks
from avel.allocator import keep_memory
from avel.batches import predictor, resident
from avel.checkpoint import Trained, load_model
from avel.data import Dataset, load_dataset
from avel.files import whole
from avel.recipes import resolve
from avel.train import fit

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = {
    "CSPA+CSEA": "both",
    "CSPA+CSEA, audio only": "audio",
    "CSPA+CSEA, picture only": "picture",
}


def train(data: Dataset, *, senses: str, seed: int, out: Path, epochs: int) -> Trained:
    folder = out / f"{senses}-{seed}"
    if not (folder / "history.csv").is_file() or not (folder / "done").is_file():
        recipe = resolve("cspa_csea", "sel", values={"epochs": epochs, "senses": senses})
        fit("cspa_csea", data, seed=seed, recipe=recipe, out=folder, resume=folder.is_dir())
        (folder / "done").touch()
    return load_model(folder)


def judge(trained: Trained, data: Dataset) -> dict[str, float]:
    predict = predictor(trained.network, resident(data.test), "sel")
    return tasks.evaluate(predict, data.test, "sel", len(data.classes), step=data.step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/toybox"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--csv", type=Path, default=ROOT / "results" / "toybox.csv")
    parser.add_argument("--default", type=Path, default=ROOT / "src/avel/pretrained/default")
    given = parser.parse_args()
    keep_memory()
    data = load_dataset("folder", root=given.data)
    rows: list[dict[str, object]] = []
    for system, senses in SYSTEMS.items():
        for seed in range(given.seeds):
            trained = train(data, senses=senses, seed=seed, out=given.out, epochs=given.epochs)
            found = judge(trained, data)
            best = trained.card["metrics"]
            rows.append(
                {"system": system, "seed": seed, "epochs": given.epochs, "epoch": best["epoch"],
                 "val_segment_accuracy": round(best["value"], 4)}
                | {k: round(v, 4) for k, v in found.items()}
            )  # fmt: skip
            print(system, seed, f"{100 * found['segment_accuracy']:.1f}", flush=True)
            if senses == "both" and seed == 0:
                trained.save(given.default, dtype="float16")
        own = [float(str(r["segment_accuracy"])) for r in rows if r["system"] == system]
        mean, sd = statistics.mean(own), statistics.stdev(own) if len(own) > 1 else 0.0
        print(f"{system}: {100 * mean:.1f} ± {100 * sd:.1f} (n = {len(own)})", flush=True)
    for name, value in tasks.trivial(data.test, "sel", len(data.classes)).items():
        rows.append({"system": f"trivial: {name}", "segment_accuracy": round(value, 4)})
        print(f"trivial: {name}: {100 * value:.1f}")
    fields = list(dict.fromkeys(k for row in rows for k in row))
    with whole(given.csv) as temporary, temporary.open("w", newline="") as f:
        writer = csv.DictWriter(f, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
