"""How fast a fresh install's default is on a real file: write results/real_time.csv.

    python benchmarks/real_time.py [FILE] [--seconds 60] [--runs 5]

FILE is the clip of `avel demo` where none is given (640x360, H.264); it is looped to that length.

The real-time factor is the seconds of video for each second of work, decoding included, in a
process that has localized before; the first answer is counted from the start of `avel localize
--stream` to its first event; the peak is the resident memory of the command that also writes a
report.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, loop, machine, write_csv

import avel
from avel.cli.demo import CLIP
from avel.inference.localizer import Localizer


def avel_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "avel", *map(str, arguments)]


def factor(find: Localizer, video: Path) -> float:
    start = time.perf_counter()
    duration = find(video).duration
    return duration / (time.perf_counter() - start)


def first_answer(video: Path, env: dict[str, str]) -> float:
    """Seconds from the start of the command to its first event."""
    start = time.perf_counter()
    command = avel_command("localize", video, "--stream", "--no-cache")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env,
                          text=True) as run:  # fmt: skip
        assert run.stdout is not None
        line = run.stdout.readline()
        took = time.perf_counter() - start
        run.communicate()
    if '"event"' not in line:
        raise SystemExit(f"{video}: no event in it, so there is no first answer")
    return took


def whole(video: Path, folder: Path, env: dict[str, str]) -> float:
    start = time.perf_counter()
    outputs = ("-o", folder / "a.json", folder / "a.html")
    command = avel_command("localize", video, "--no-cache", *outputs)
    subprocess.run(command, check=True, capture_output=True, env=env)
    return time.perf_counter() - start


def timed_help(env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(avel_command("--help"), check=True, capture_output=True, env=env)
    return time.perf_counter() - start


def row(what: str, unit: str, values: list[float]) -> dict[str, Any]:
    spread = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {"what": what, "unit": unit, **{k: f"{v:.2f}" for k, v in spread.items()},
            "runs": len(values), **machine()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "real_time.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / given.video.name
        loop(given.video, video, seconds=given.seconds)
        rows = measured(video, Path(folder), given.runs)
    write_csv(given.csv, rows, beside=True)


def measured(video: Path, folder: Path, runs: int) -> list[dict[str, Any]]:
    media = avel.open(video)
    size = f"{media.video.width}x{media.video.height}" if media.video else "no picture"
    named = f"{media.duration:.0f} s, {size}"
    env = dict(os.environ)
    find = Localizer("default", cache=False)
    factor(find, video)  # warms up
    factors = [factor(find, video) for _ in range(runs)]
    first_answer(video, env)
    answers = [first_answer(video, env) for _ in range(runs)]
    wholes = [whole(video, folder, env) for _ in range(runs)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [
        row(f"default, {named}", "times real time", factors),
        row(f"avel localize --stream, first event, {named}", "s", answers),
        row(f"avel localize -o json html, {named}", "s", wholes),
        row(f"peak memory of these commands, {named}", "MB", [peak]),
        row("avel --help", "s", [timed_help(env) for _ in range(runs)]),
    ]


if __name__ == "__main__":
    main()
