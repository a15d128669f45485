"""Peak memory of `avel localize` on 1, 10 and 60 minutes; write results/memory.csv.

    python benchmarks/memory.py                 # a Toybox clip, rendered and looped
    python benchmarks/memory.py clip.mp4        # a video of one's own, looped without re-encoding

All lengths are made of the same packets, so they differ in nothing but length. The peak of one run
varies by some 20 MB with what the decoder's and the network's threads hold at the same moment, so
the median of several counts; files of half an hour and more are run once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, given_or_toybox, loop, machine, run_avel, write_csv

#: Most MB of a command, and most times what the second longest file takes that the longest may.
MOST_MB, MOST_RATIO = 2048, 1.10
#: What is run: events as they come, the report, and features that are kept and then read.
CASES = {
    "--stream": ("--stream", "--no-cache"),
    "-o .json .html": ("--no-cache", "-o", "{out}.json", "{out}.html"),
    "-o .json, features kept": ("-o", "{out}.json"),
    "-o .json, kept features read": ("-o", "{out}.json"),
}
LONG = 30  # minutes from which one run must do


def peaks(video: Path, case: str, *, runs: int) -> tuple[list[float], list[float]]:
    """Peak MB and seconds of some runs."""
    options = [o.format(out=video.with_suffix("")) for o in CASES[case]]
    done = []
    for _ in range(runs):
        if "features kept" in case:
            shutil.rmtree(Path(os.environ["AVEL_CACHE"]) / "features", ignore_errors=True)
        done.append(run_avel("localize", video, *options))
    for one in done:
        if one.code or one.peak_mb is None:
            raise SystemExit(one.err or "this system doesn't tell a process's peak (no /proc)")
    return [one.peak_mb or 0.0 for one in done], [one.seconds for one in done]


def measure(clip: Path, folder: Path, given: argparse.Namespace, *, name: str) -> Any:
    """A row for each case and length."""
    found: dict[tuple[str, float], dict[str, Any]] = {}
    for minutes in sorted(given.minutes):
        video = folder / f"{minutes:g}.mkv"
        loop(clip, video, seconds=60 * minutes)
        for case in (c for c in CASES if given.case in c):
            runs = 1 if minutes >= LONG else given.runs
            peak, seconds = peaks(video, case, runs=runs)
            median = statistics.median(peak)
            before = [r for (c, _), r in found.items() if c == case]
            shorter = float(before[-1]["peak_mb"]) if before else median
            found[case, minutes] = {
                "clip": name,
                "what": f"avel localize {case}",
                "minutes": f"{minutes:g}",
                "peak_mb": f"{median:.0f}",
                "least_mb": f"{min(peak):.0f}",
                "most_mb": f"{max(peak):.0f}",
                "runs": runs,
                "ratio_to_shorter": f"{median / shorter:.3f}",
                "seconds": f"{statistics.median(seconds):.1f}",
            } | machine()
            print(*list(found[case, minutes].values())[1:9], sep="  ", file=sys.stderr, flush=True)
        video.unlink()
    return [found[key] for key in sorted(found, key=lambda k: (list(CASES).index(k[0]), k[1]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", help="a video; a Toybox clip by default")
    parser.add_argument("--minutes", type=float, nargs="+", default=(1, 10, 60))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", default="", help="only those whose name holds this")
    parser.add_argument("--csv", type=Path, default=RESULTS / "memory.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip, name = given_or_toybox(given.clip, folder, seconds=30)
        os.environ["AVEL_CACHE"] = str(folder / "cache")
        rows = measure(clip, folder, given, name=name)
    write_csv(given.csv, rows, beside=True, case=("clip", "what", "minutes"))
    longest = f"{max(given.minutes):g}"
    worst = max(float(row["ratio_to_shorter"]) for row in rows if row["minutes"] == longest)
    most = max(float(row["most_mb"]) for row in rows)
    flat = worst <= MOST_RATIO and most < MOST_MB
    print(f"{longest} minutes: x{worst:.3f}; at most {most:.0f} MB: {'flat' if flat else 'GROWS'}")


if __name__ == "__main__":
    main()
