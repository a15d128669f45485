"""A training epoch on AVE's scale: avel against a plain loop over the same model.

    python benchmarks/training.py DIR --labels ../shared/ave
    python benchmarks/training.py DIR --made-up 400 --widths 1024 1280 --devices 2

DIR gets simulated AVE features where it has none (8.3 GB, and a float16 store of 2.1 GB beside
them), or with --made-up a small data set of other widths: 1024 and 1280 are those of yamnet and
efficientnet_lite0. --devices 2 trains with two processes as well, which share every batch.

The plain loop is written below the way the field's scripts are: all features as float64 in memory,
a batch is ``x[ids]`` cast to float32, backward, Adam; float32, eager, the C library's own memory
management. Both train every seed in a process of its own, plain and avel in turn; an epoch is timed
with its validation (and avel's with its checkpoint).

Writes results/training.csv (seconds, peak memory, ratios, accuracy on validation; ``ready_s`` are
the seconds from the process's start to its first step), results/training_curves.csv (every epoch
of every seed) and results/training_startup.csv (how soon the command answers). ``cpu_s`` of two
processes is that of the first, ``peak_mb`` of both. Rows of other machines and of other features
stay.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, machine, run_avel, write_csv

#: Model, its options, and what results call it.
MODELS = {
    "A+V-att": ("av", {"inputs": "a+v-att"}),
    "CSPA+CSEA": ("cspa_csea", {}),
    "evidence": ("evidence", {}),
}
SIDES = ("plain", "avel")
SHARED = "avel, {} processes"
#: 97.5 % point of Student's t for 3 + 3 seeds: further apart than this many standard errors, two
#: means differ by more than their seeds make them.
T_CRITICAL = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306}
RATIO, MEMORY = 4.0, 0.35
#: Of made-up features: as many as AVE has.
CLASSES = 28
BEGUN = time.perf_counter()
#: How soon the command answers: to a question, and to a mistake that it finds before any work.
ANSWERS = {
    "avel --help": ["--help"],
    "avel train --help": ["train", "--help"],
    "avel train, no such folder": ["train", "cspa_csea", "data=/no/such/folder"],
}


# ---- the features


def make_up(folder: Path, clips: int, widths: Sequence[int]) -> None:
    """Features of ten-second clips of those widths, one event each: noise and a class's pattern."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    patterns = [rng.standard_normal((CLASSES, width)) for width in widths]
    for split, count in {"train": clips, "val": clips // 4}.items():
        labels = np.full((count, 10), CLASSES)
        audio = rng.standard_normal((count, 10, widths[0]), np.float32)
        visual = rng.standard_normal((count, 10, 7, 7, widths[1]), np.float32)
        for i in range(count):
            start, region = int(rng.integers(0, 7)), tuple(rng.integers(0, 7, 2))
            event = slice(start, start + int(rng.integers(2, 4)))
            labels[i, event] = i % CLASSES
            audio[i, event] += patterns[0][i % CLASSES]
            visual[i, event, *region] += patterns[1][i % CLASSES]
        arrays = {"labels": labels, "audio": audio, "visual": np.maximum(visual, 0)}
        for name, array in arrays.items():
            kept = array if name == "labels" else array.astype(np.float16)
            np.save(folder / f"{split}-{name}.npy", kept)


def load_features(root: Path) -> Any:
    """The data set of a folder: made up, or AVE's."""
    import numpy as np

    from avel.data import load_dataset
    from avel.data.base import Dataset, Split

    if not (root / "train-labels.npy").is_file():
        return load_dataset("ave", root=root)
    splits = {}
    for name in ("train", "val"):
        parts = {
            part: np.load(root / f"{name}-{part}.npy", mmap_mode=mode)
            for part, mode in (("audio", "r"), ("visual", "r"), ("labels", None))
        }
        count = len(parts["labels"])
        ids = tuple(f"{name}-{i}" for i in range(count))
        splits[name] = Split(name, ids, lengths=np.full(count, 10), **parts)
    splits["test"] = splits["val"]
    return Dataset("made up", tuple(f"class {i}" for i in range(CLASSES)), splits)


# ---- the plain loop


def read_plain(root: str, data: Any, name: str) -> tuple[Any, Any, Any]:
    """A split as float64 tensors straight from the files, and its labels."""
    import h5py
    import numpy as np
    import torch

    split, tensors = data.splits[name], []
    if data.name == "made up":
        arrays = (np.asarray(a[split.store_rows], np.float64) for a in (split.audio, split.visual))
        audio, visual = (torch.from_numpy(a) for a in arrays)
        return audio, visual, torch.from_numpy(split.labels)
    expected = {int(row): i for i, row in enumerate(split.rows)}
    for file in ("audio_feature.h5", "visual_feature.h5"):
        with h5py.File(Path(root) / file) as f:
            source = f["avadataset"]
            tensor = torch.empty((len(split), *source.shape[1:]), dtype=torch.float64)
            for first in range(0, len(source), 64):
                block = torch.from_numpy(source[first : first + 64])
                for k in range(len(block)):
                    if first + k in expected:
                        tensor[expected[first + k]] = block[k]
        tensors.append(tensor)
    return tensors[0], tensors[1], torch.from_numpy(split.labels)


def train_plain(root: str, data: Any, model: str, options: Any, *, seed: int, epochs: int) -> None:
    """The plain loop; prints a line of JSON for every epoch."""
    import torch

    from avel.models.base import Batch, build_model
    from avel.training.recipes import resolve

    recipe = resolve(model, values=options)
    train, val = (read_plain(root, data, name) for name in ("train", "val"))
    torch.manual_seed(seed)
    net = build_model(
        model, audio_dim=train[0].shape[-1], visual_dim=train[1].shape[-1],
        classes=len(data.classes), task="sel", **options,
    )  # fmt: skip
    adam = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    for epoch in range(epochs):
        start = clocks()
        net.train()
        total = 0.0
        order = torch.randperm(len(train[0]))
        for ids in order.split(recipe.batch):
            audio, visual, labels = train[0][ids].float(), train[1][ids].float(), train[2][ids]
            loss = net.loss(net(audio=audio, visual=visual), Batch(audio, visual, labels=labels))
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.item() * len(ids)
        net.eval()
        right = 0
        with torch.no_grad():
            for ids in torch.arange(len(val[0])).split(64):
                found = net(audio=val[0][ids].float(), visual=val[1][ids].float()).labels
                right += int((found == val[2][ids]).sum())
        tell(epoch, start, total / len(order), right / val[2].numel())


# ---- avel


def train_avel(
    data: Any, model: str, options: Any, *, seed: int, epochs: int, devices: int
) -> None:
    """What `avel train` does; prints a line of JSON for every epoch."""
    from avel.training.loop import fit
    from avel.training.recipes import resolve

    begun: list[tuple[float, float]] = []

    def step(record: Any, _: int) -> None:
        start = begun[-1] if begun else None  # the first epoch's time would hold the reading too
        tell(record["epoch"] - 1, start, record["loss"], record["segment_accuracy"])
        begun.append(clocks())

    with tempfile.TemporaryDirectory() as folder:
        recipe = resolve(model, values={"epochs": epochs, **options})
        out = Path(folder) / "run"
        several = {"devices": devices, "device": "cpu"} if devices > 1 else {}
        run = fit(model, data, seed=seed, recipe=recipe, out=out, progress=step, **several)
        print(json.dumps({"precision": run.trained.card["precision"]}), flush=True)


def clocks() -> tuple[float, float]:
    """Wall-clock and processor seconds: the second counts threads, and no other's work."""
    return time.perf_counter(), time.process_time()


def tell(epoch: int, start: tuple[float, float] | None, loss: float, accuracy: float) -> None:
    """An epoch's line; its seconds are missing where they would hold more than the epoch."""
    took = (None, None) if start is None else (b - a for a, b in zip(start, clocks(), strict=True))
    line = dict(zip(("seconds", "cpu_seconds"), took, strict=True))
    line["since_start"] = time.perf_counter() - BEGUN
    print(json.dumps({"epoch": epoch + 1, **line, "loss": loss, "accuracy": accuracy}), flush=True)


# ---- both


def child(task: Any) -> None:
    """Train one seed in this process, as either side does."""
    if task["side"] != "plain":
        from avel.memory import keep_memory

        keep_memory()
    import torch

    data = load_features(Path(task["root"]))
    if task["rows"]:
        train = data.train
        keep = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).numpy()
        keep = keep[: task["rows"]]
        data.splits["train"] = replace(train.subset(keep), tags=None)
    model, options = MODELS[task["model"]]
    length = {"seed": task["seed"], "epochs": task["epochs"]}
    if task["side"] == "plain":
        train_plain(task["root"], data, model, options, **length)
    else:
        train_avel(data, model, options, devices=task["devices"], **length)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"peak_mb": peak / 1024, "threads": torch.get_num_threads()}), flush=True)


def train(side: str, model: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One seed of one side in a process of its own: its epochs, peak memory, precision."""
    task = {
        "side": side, "model": model, "seed": seed, "root": str(given.folder), "rows": given.rows,
        "epochs": given.epochs, "devices": given.devices if side.startswith("avel, ") else 1,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, __file__, "child", json.dumps(task)], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{side} {model} seed {seed} ended with status {done.returncode}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ends = [line for line in lines if "peak_mb" in line]  # one a process
    found: dict[str, Any] = {
        "precision": next((line["precision"] for line in lines if "precision" in line), "float32"),
        "epochs": [line for line in lines if "epoch" in line],
        "peak_mb": sum(end["peak_mb"] for end in ends),
        "threads": ends[0]["threads"],
        "processes": len(ends),
    }
    last = found["epochs"][-1]
    print(
        f"{model} {side} seed {seed}: {last['seconds']:.2f} s an epoch, peak"
        f" {found['peak_mb']:.0f} MB, validation {100 * last['accuracy']:.2f}",
        file=sys.stderr,
    )
    return found


def summary(model: str, runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each side."""
    rows, middle = [], {}
    for side in runs:
        seconds = [e["seconds"] for r in runs[side] for e in r["epochs"] if e["seconds"]]
        peaks = [r["peak_mb"] for r in runs[side]]
        cpu = [e["cpu_seconds"] for r in runs[side] for e in r["epochs"] if e["seconds"]]
        middle[side] = statistics.median(seconds), max(peaks)
        ready = [r["epochs"][0]["since_start"] - middle[side][0] for r in runs[side]]
        best, mean = curve_figures(runs[side])
        rows.append({
            "model": model,
            "side": side,
            "precision": runs[side][0]["precision"],
            "processes": runs[side][0]["processes"],
            "threads": runs[side][0]["threads"],
            "epoch_s": f"{middle[side][0]:.2f}",
            "least_s": f"{min(seconds):.2f}",
            "most_s": f"{max(seconds):.2f}",
            "cpu_s": f"{statistics.median(cpu):.2f}",
            "epochs_timed": len(seconds),
            "ready_s": f"{statistics.median(ready):.1f}",
            "peak_mb": f"{max(peaks):.0f}",
            "times_faster": f"{middle['plain'][0] / middle[side][0]:.2f}",
            "share_of_memory": f"{middle[side][1] / middle['plain'][1]:.3f}",
            "seeds": len(best),
            "best_val": f"{statistics.mean(best):.2f}",
            "best_val_sd": f"{statistics.stdev(best):.2f}" if len(best) > 1 else "",
            "mean_val": f"{statistics.mean(mean):.2f}",
            "mean_val_sd": f"{statistics.stdev(mean):.2f}" if len(mean) > 1 else "",
        })  # fmt: skip
    return rows


def curve_figures(runs: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Of every seed's validation curve in %: its best epoch, and its mean over the epochs."""
    curves = [[100 * e["accuracy"] for e in r["epochs"]] for r in runs]
    return [max(c) for c in curves], [statistics.mean(c) for c in curves]


def apart(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Difference of two means, and what it may be by their seeds' noise alone (95 %)."""
    noise = math.sqrt(
        statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)
    )
    difference = statistics.mean(ours) - statistics.mean(theirs)
    return difference, T_CRITICAL.get(len(ours) + len(theirs) - 2, 2.306) * noise


def answers(runs: int = 5) -> list[dict[str, Any]]:
    """Seconds until the command answers, a process each time."""
    rows = []
    for name, arguments in ANSWERS.items():
        seconds = [run_avel(*arguments).seconds for _ in range(runs)]
        rows.append({
            "command": name, "median_s": f"{statistics.median(seconds):.2f}",
            "least_s": f"{min(seconds):.2f}", "most_s": f"{max(seconds):.2f}", "runs": runs,
        })  # fmt: skip
    return rows


def verdict(model: str, rows: list[dict[str, Any]], runs: dict[str, list[dict[str, Any]]]) -> str:
    """What was found, in sentences."""
    faster, share = float(rows[1]["times_faster"]), float(rows[1]["share_of_memory"])
    told = [
        f"{model}: {faster:.2f} times faster ({'at least' if faster >= RATIO else 'LESS than'}"
        f" {RATIO:g}), {share:.3f} of the memory"
        f" ({'at most' if share <= MEMORY else 'MORE than'} {MEMORY:g})."
    ]
    if len(runs["avel"]) > 1:
        pairs = zip(curve_figures(runs["avel"]), curve_figures(runs["plain"]), strict=True)
        for name, (ours, theirs) in zip(("best epoch", "mean over epochs"), pairs, strict=True):
            difference, noise = apart(ours, theirs)
            agree = "within" if abs(difference) <= noise else "OUTSIDE"
            told.append(
                f"Validation, {name}: avel's mean is {difference:+.2f} points from the plain"
                f" loop's, {agree} seed noise ({noise:.2f} points at 95 %)."
            )
    return " ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, help="AVE's text and order files")
    parser.add_argument("--scale", type=float, default=1.0, help="of features that are made")
    parser.add_argument("--rows", type=int, default=0, help="training clips; 0 takes all")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--made-up", type=int, default=0, help="clips of a made-up data set")
    parser.add_argument("--widths", type=int, nargs=2, default=(1024, 1280), help="of made-up ones")
    parser.add_argument("--devices", type=int, default=1, help="train with so many processes too")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    from avel.models.base import models

    features = "simulated AVE, 128 and 512"
    if given.made_up:
        features = f"made up, {given.widths[0]} and {given.widths[1]}"
        make_up(given.folder, given.made_up, given.widths)
    elif not (given.folder / "SIMULATED.json").is_file():
        if given.labels is None:
            parser.error(f"{given.folder} holds no simulated features: --labels makes them")
        made = [str(given.folder), "--labels", str(given.labels), "--scale", str(given.scale)]
        subprocess.run([sys.executable, "-m", "avel", "synth-features", *made], check=True)
    where = machine()
    rows, epochs, told = [], [], []
    for model in given.models:
        sides = [*SIDES]
        if given.devices > 1 and models.get(MODELS[model][0]).shares_batches:
            sides.append(SHARED.format(given.devices))
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for seed in range(given.seeds):
            for side in sides:
                runs[side].append(train(side, model, seed, given))
                epochs += [
                    {"model": model, "side": side, "seed": seed, **epoch}
                    for epoch in runs[side][-1]["epochs"]
                ]
        rows += summary(model, runs)
        told.append(verdict(model, rows[-len(sides) :], runs))
    case, head = ("features", "model"), {"features": features}
    clips = {"clips": given.rows or given.made_up or "all"}
    tables = {"training_curves.csv": epochs, "training.csv": [r | clips for r in rows]}
    for name, table in tables.items():
        table = [head | r | where for r in table]
        write_csv(given.results / name, table, beside=True, case=case)
    startup = [r | where for r in answers()]
    write_csv(given.results / "training_startup.csv", startup, beside=True)
    print("\n".join(told))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(json.loads(sys.argv[2]))
    else:
        main()
