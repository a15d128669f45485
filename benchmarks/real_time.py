"""How fast a fresh install's default is on a real file: write results/real_time.csv.

    python benchmarks/real_time.py FILE [--runs 5]

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

from common import RESULTS, machine, write_csv

import avel
from avel.localization import Localizer


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
    parser.add_argument("video", type=Path, help="with an event that the default finds")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=RESULTS / "real_time.csv")
    given = parser.parse_args()
    video = given.video
    media = avel.open(video)
    size = f"{media.video.width}x{media.video.height}" if media.video else "no picture"
    named = f"{media.duration:.0f} s, {size}"
    env = dict(os.environ)
    find = Localizer("default")
    factor(find, video)  # warms up
    rows = [row(f"default, {named}", "times real time",
                [factor(find, video) for _ in range(given.runs)])]  # fmt: skip
    first_answer(video, env)
    rows.append(row(f"avel localize --stream, first event, {named}", "s",
                    [first_answer(video, env) for _ in range(given.runs)]))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows.append(row(f"avel localize -o json html, {named}", "s",
                        [whole(video, Path(folder), env) for _ in range(given.runs)]))  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows.append(row(f"peak memory of these commands, {named}", "MB", [peak]))
    rows.append(row("avel --help", "s", [timed_help(env) for _ in range(given.runs)]))
    write_csv(given.csv, rows)


if __name__ == "__main__":
    main()
