"""How long a folder's features take to load, before and after `avel pack`; write pack.csv.

    python benchmarks/pack.py                   # results/pack.csv

Made-up features of ten-second clips in the mini backbones' shapes. Each run is a process of its
own, the two kinds in turns, files in the page cache. "load" is load_dataset; "load and read" also
copies the training split into tensors, as training does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, run_avel, write_csv

from avel.features.store import feature_path
from avel.types import Features, Grid

_LOAD = """
import sys, time
import avel.data.folder, avel.data.resident
begin = time.perf_counter()
data = avel.data.folder.load(sys.argv[1])
loaded = time.perf_counter() - begin
avel.data.resident.resident(data.train)
read = time.perf_counter() - begin
peak = [l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")]
print(type(data.train.audio).__name__, loaded, read, int(peak[0]) / 1024)
"""


def make(root: Path, clips: int) -> None:
    """A folder of clips: empty media files, annotations, features."""
    rng = np.random.default_rng(0)
    lines = ["file,start,end,label"]
    grid, flags = Grid(10.0), np.ones(10, bool)
    cards = [{"name": f"mini_{m}", "weights": "made up", "hash": ""} for m in ("audio", "visual")]
    for i in range(clips):
        name = f"{i:06d}.mp4"
        (root / name).touch()
        lines.append(f"{name},2,5,{'ab'[i % 2]}")
        audio = rng.standard_normal((10, 128), np.float32)
        visual = rng.standard_normal((10, 7, 7, 128), np.float32)
        made = Features(audio, visual, grid, flags, flags, cards[0], cards[1], name)
        made.save(feature_path(root, name), dtype="float16")
    (root / "annotations.csv").write_text("\n".join(lines) + "\n")


def once(root: Path, *, packed: bool) -> tuple[float, float, float]:
    """Seconds to load, seconds to load and read, peak MB."""
    store, aside = root / "features" / ".avel", root / ".aside"
    if not packed:
        store.rename(aside)
    command = [sys.executable, "-c", _LOAD, str(root)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if not packed:
        aside.rename(store)
    assert (told[0] == "Windows") == packed, told
    return float(told[1]), float(told[2]), float(told[3])


def row(what: str, values: list[tuple[float, float, float]], clips: int) -> dict[str, Any]:
    told: dict[str, Any] = {"what": what, "clips": clips, "runs": len(values)}
    for i, name in enumerate(("load_s", "load_and_read_s", "peak_mb")):
        column = [v[i] for v in values]
        told[name] = f"{statistics.median(column):.3f}"
        told[f"{name}_spread"] = f"{min(column):.3f} to {max(column):.3f}"
    return told | machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=RESULTS / "pack.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, given.clips)
        packing = run_avel("pack", root)
        assert packing.code == 0, packing.err
        print(f"avel pack: {packing.seconds:.1f} s, {packing.out.strip()}", file=sys.stderr)
        kinds: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
        for _ in range(given.runs):
            for packed, held in kinds.items():
                held.append(once(root, packed=packed))
    rows = [row("files", kinds[False], given.clips), row("pack", kinds[True], given.clips)]
    write_csv(given.csv, rows, beside=True)


if __name__ == "__main__":
    main()
