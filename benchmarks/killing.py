"""SIGKILL in `avel train --resume` and `avel extract -j 2`, and two trainings into one folder.

    python benchmarks/killing.py

Commands are killed at random moments and run again; counted is what is left, lost or different in
the end. `benchmarks/serve.py` does the same to the server.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv

from avel.features.store import header
from avel.inference.checkpoint import weights_hash
from avel.inference.load import load_trained

Row = tuple[str, Any]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """A command, in a group of its own with its workers."""
    return subprocess.Popen(
        [sys.executable, "-m", "avel", *map(str, arguments)], text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def done(*arguments: str | Path) -> None:
    """A command that has to work."""
    process = start(*arguments)
    said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"avel {' '.join(map(str, arguments))}: {said}")


def killed(process: subprocess.Popen[str], after: float) -> bool:
    """Kill it with its workers; whether it was still at work."""
    time.sleep(after)
    was = process.poll() is None
    if was:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was


def trainings(toy: Path, folder: Path, kills: int, rng: random.Random) -> Iterator[Row]:
    """A training that is killed again and again, beside one that isn't."""
    call = ["train", "cspa_csea", f"data={toy}", "epochs=60", "batch=4", "hidden=64", "state=32"]
    begun = time.monotonic()
    done(*call, "-o", folder / "whole")
    length = time.monotonic() - begun
    run, hits = folder / "run", 0
    left = 0
    for _ in range(kills):
        process = start(*call, "-o", run, "--resume")
        while process.poll() is None and not (run / "state.safetensors").is_file():
            time.sleep(0.02)
        hits += killed(process, rng.uniform(0.3, 0.8) * length / 2)
        left += bool(list(run.glob(".*")))
    if (run / "history.csv").is_file():  # as a kill between the state and the table leaves it
        (run / "history.csv").write_text("epoch,loss\n")
    (run / ".state.safetensors.0123456789ab.tmp.safetensors").write_bytes(b"half")
    done(*call, "-o", run, "--resume")
    done(*call, "-o", run, "--resume")  # nothing is left to train
    same = weights_hash(load_trained(run).network.state_dict()) == weights_hash(
        load_trained(folder / "whole").network.state_dict()
    )
    tables = [(place / "history.csv").read_text() for place in (run, folder / "whole")]
    yield "train: killed", hits
    yield "train: kills after which half a file lay there", left
    yield "train: half files left in the end", len(list(run.glob(".*")))
    yield "train: weights are those of an unbroken run", same
    yield "train: history.csv is that of an unbroken run", tables[0] == tables[1]


def two_at_once(toy: Path, folder: Path) -> Iterator[Row]:
    """Two trainings into one folder."""
    call = ["train", "cspa_csea", f"data={toy}", "epochs=60", "batch=4", "hidden=64", "state=32"]
    both = [start(*call, "-o", folder / "both", "--seed", str(seed)) for seed in (1, 2)]
    said = [process.communicate()[1] for process in both]
    yield "two trainings, one folder: ended well", sum(p.returncode == 0 for p in both)
    refused = sum("another process is training" in s or "already holds" in s for s in said)
    yield "two trainings, one folder: refused in one sentence", refused


def extractions(toy: Path, kills: int, rng: random.Random) -> Iterator[Row]:
    """An extraction with two workers that is killed again and again."""
    hits = 0
    for _ in range(kills):
        hits += killed(start("extract", toy, "-j", "2", "--again"), rng.uniform(3, 12))
    done("extract", toy, "-j", "2")
    files = list((toy / "features").rglob("[!.]*.safetensors"))
    videos = list((toy / "videos").glob("*.mp4"))
    yield "extract -j 2: killed", hits
    yield (
        "extract -j 2: clips without whole features",
        len(videos) - sum(bool(header(path)) for path in files),
    )
    with (toy / "features" / "manifest.csv").open(newline="") as f:
        states = [row["status"] for row in csv.DictReader(f)]
    yield "extract -j 2: clips not done in manifest.csv", len(videos) - states.count("done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6, help="of each command")
    parser.add_argument("--label", default="now", help="what the column is called")
    parser.add_argument("--csv", type=Path, default=RESULTS / "killing.csv")
    given = parser.parse_args()
    rng, found = random.Random(3), list[Row]()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["AVEL_CACHE"] = str(folder / "cache")
        toy = folder / "toy"
        done("synth", toy, "--clips", "12", "--seconds", "4", "--seed", "3")
        done("extract", toy)
        found += trainings(toy, folder, given.kills, rng)
        found += two_at_once(toy, folder)
        found += extractions(toy, given.kills, rng)
    before: dict[str, dict[str, Any]] = {}
    if given.csv.is_file():
        with given.csv.open(newline="") as f:
            before = {row["what"]: row for row in csv.DictReader(f)}
    for what, value in found:
        row = before.setdefault(what, {"what": what, "before": "", "now": ""})
        row[given.label] = value
        row |= machine()
    write_csv(given.csv, list(before.values()))


if __name__ == "__main__":
    main()
