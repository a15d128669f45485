"""Every file of a folder through `avel localize`; write results/media.csv.

    python benchmarks/media.py FOLDER

Each file's chosen frame times are checked against its own timestamps, read by a second, plain
decoding of the whole file: the largest difference in seconds, over all frames of all segments.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import Any

import av
import av.error
from common import RESULTS, machine, run_avel, write_csv

import avel
from avel.errors import AvelError

FRAMES = 16
_EPS = 1e-6


def own_times(path: Path, track: int) -> tuple[list[float], float]:
    """Timestamps of all frames of a track by plain decoding, and when the last one ends."""
    times: list[float] = []
    end = 0.0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams[track]):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                times.append(float(frame.pts * frame.time_base))
                end = times[-1] + float((frame.duration or 0) * frame.time_base)
        start = (container.start_time or 0) / av.time_base
    return [t - start for t in times], end - start


def check_times(path: Path) -> dict[str, Any]:
    """How many frames the segments hold, how many they should, and the largest difference."""
    media = avel.open(path)
    if media.video is None:
        return {"frames": 0, "frames_expected": 0, "max_difference_s": ""}
    times, end = own_times(path, media.video.index)
    chosen = expected = 0
    worst = 0.0
    for segment in media.segments(frames=FRAMES, size=8):
        instants = [segment.index + k / FRAMES for k in range(FRAMES)]
        true_times = [
            times[max(0, bisect_right(times, instant + _EPS) - 1)]
            for instant in instants
            if instant < end - _EPS and (times[0] <= instant + _EPS or times[0] < instants[0] + 1)
        ]
        chosen, expected = chosen + len(segment.frame_times), expected + len(true_times)
        both = zip(segment.frame_times, true_times, strict=False)
        worst = max([worst, *(abs(a - b) for a, b in both)])
    return {"frames": chosen, "frames_expected": expected, "max_difference_s": f"{worst:.6f}"}


def measure(path: Path, folder: Path) -> dict[str, Any]:
    """One row: what came out, how long it took, and whether the times are the file's own."""
    written = folder / f"{path.name}.json", folder / f"{path.name}.html"
    ran = run_avel("localize", path, "--no-cache", "-o", *written)
    found = json.loads(written[0].read_text()) if written[0].is_file() else None
    message = ran.err.strip().splitlines()
    row: dict[str, Any] = {
        "file": path.name,
        "exit_code": ran.code,
        "duration_s": "" if found is None else f"{found['duration']:.3f}",
        "segments": "" if found is None else len(found["segments"]),
        "events": "" if found is None else len(found["events"]),
        "report": written[1].is_file(),
        "notes": " ".join(found["notes"] if found else message).replace(str(path), path.name),
        "seconds": f"{ran.seconds:.1f}",
        "peak_mb": ran.peak,
    }
    try:
        row |= check_times(path)
    except AvelError:
        row |= {"frames": "", "frames_expected": "", "max_difference_s": ""}
    return row | machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS / "media.csv")
    given = parser.parse_args()
    files = sorted(p for p in given.folder.iterdir() if p.is_file())
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(path, Path(folder)) for path in files]
    write_csv(given.csv, rows, beside=True)


if __name__ == "__main__":
    main()
