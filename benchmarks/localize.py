"""How fast `avel` starts, and how fast it localizes with the mini backbones; write localize.csv.

    python benchmarks/localize.py               # results/localize.csv

Files of one minute from Toybox, 320x240 and 640x360. The real-time factor is the seconds that the
work took for each second of video, start-up apart; below 1 is faster than the video plays.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, run_avel, write_csv

from avel.data.toybox import Plan
from avel.data.toybox.dataset import render_clip
from avel.localization import Localizer

SIZES = ((320, 240), (640, 360))


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def row(what: str, unit: str, values: list[float], **more: str) -> dict[str, Any]:
    return {
        "what": what,
        "unit": unit,
        "median": f"{statistics.median(values):.3f}",
        "least": f"{min(values):.3f}",
        "most": f"{max(values):.3f}",
        "runs": len(values),
        "precision": more.get("precision", ""),
        "threads": more.get("threads", ""),
    } | machine()


def starts(runs: int) -> list[dict[str, Any]]:
    """Seconds to `avel --help` and to `import avel`, the interpreter's own start included."""
    python("pass")  # so that the first one doesn't pay for a cold disk
    run_avel("--help")
    bare = [timed(lambda: python("pass")) for _ in range(runs)]
    imported = [timed(lambda: python("import avel")) for _ in range(runs)]
    helped = [run_avel("--help").seconds for _ in range(runs)]
    return [
        row("python -c pass", "s", bare),
        row("import avel", "s", imported),
        row("avel --help", "s", helped),
    ]


def factors(folder: Path, *, seconds: float, runs: int) -> list[dict[str, Any]]:
    """Real-time factors of a loaded Localizer, and of the whole command on the larger file."""
    rows = []
    find = Localizer()
    told = {"precision": "float32", "threads": str(torch.get_num_threads())}
    for width, height in SIZES:
        plan = Plan(seed=1_000_000_002, seconds=seconds, width=width, height=height)
        name = render_clip(plan, 0, folder / f"{width}")
        video = folder / f"{width}" / "videos" / f"{name}.mp4"
        find(video)  # the first one warms caches
        took = [timed(lambda v=video: find(v)) / seconds for _ in range(runs)]
        rows.append(row(f"localize {width}x{height}", "s per s of video", took, **told))
        whole = [
            run_avel("localize", video, "-o", folder / "a.json", folder / "a.html").seconds
            for _ in range(runs)
        ]
        rows.append(
            row(f"avel localize {seconds:g} s {width}x{height} json html", "s", whole, **told)
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="length of the files")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "localize.csv")
    given = parser.parse_args()
    rows = starts(given.runs)
    with tempfile.TemporaryDirectory() as folder:
        rows += factors(Path(folder), seconds=given.seconds, runs=given.runs)
    write_csv(given.csv, rows)


if __name__ == "__main__":
    main()
