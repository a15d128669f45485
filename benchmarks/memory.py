"""Peak memory of `avel localize` on 3 and 30 minutes; write results/memory.csv.

    python benchmarks/memory.py                 # a Toybox clip, rendered and looped
    python benchmarks/memory.py clip.mp4        # a video of one's own, looped without re-encoding

Both lengths are made of the same packets, so they differ in nothing but length. The peak of one run
varies by some 20 MB with what the decoder's and the network's threads hold at the same moment, so
the median of several counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from common import RESULTS, machine, run_avel, write_csv

from avel.data.toybox import Plan
from avel.data.toybox.dataset import render_clip

#: Peak memory of a command in MB, and how much longer files may add to it in percent.
MOST_MB, MOST_GROWTH = 2048, 5.0


def period(clip: Path) -> float:
    """Seconds from a file's first packet to its last one's end, so that copies don't overlap."""
    first, end = 0.0, 0.0
    with av.open(str(clip)) as source:
        for p in source.demux():
            if p.dts is not None and p.pts is not None:
                first = min(first, float(p.dts * p.time_base))
                end = max(end, float((max(p.pts, p.dts) + (p.duration or 0)) * p.time_base))
    return end - first + 0.01


def loop(clip: Path, target: Path, *, seconds: float) -> None:
    """Copy a file's packets again and again until it is that long; nothing is encoded anew."""
    length = period(clip)
    with av.open(str(target), "w") as out:
        copies = {}
        for k in range(max(1, round(seconds / length))):
            with av.open(str(clip)) as source:
                picked = [*source.streams.video[:1], *source.streams.audio[:1]]
                for stream in picked:
                    if stream.index not in copies:
                        copies[stream.index] = out.add_stream_from_template(stream)
                for packet in source.demux(picked):
                    if packet.dts is None or packet.pts is None:
                        continue
                    index = packet.stream.index
                    shift = round(k * length / packet.time_base)
                    packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                    packet.stream = copies[index]
                    out.mux(packet)


def peaks(clip: Path, folder: Path, *, minutes: float, outputs: Sequence[str], runs: int) -> Any:
    """Peak MB and seconds of some runs."""
    video = folder / f"{minutes:g}.mkv"
    if not video.is_file():
        loop(clip, video, seconds=60 * minutes)
    written = [folder / f"out{ending}" for ending in outputs]
    done = [run_avel("localize", video, "-o", *written) for _ in range(runs)]
    for one in done:
        if one.code or one.peak_mb is None:
            raise SystemExit(one.err or "this system doesn't tell a process's peak (no /proc)")
    return [one.peak_mb for one in done], [one.seconds for one in done]


def measure(clip: Path, folder: Path, lengths: Sequence[float], *, name: str, runs: int) -> Any:
    """A row for each length, without and with the report."""
    rows = []
    for outputs in ((".json",), (".json", ".html")):
        shorter = None
        for minutes in lengths:
            peak, seconds = peaks(clip, folder, minutes=minutes, outputs=outputs, runs=runs)
            median = statistics.median(peak)
            shorter = shorter or median
            row = {
                "clip": name,
                "outputs": " ".join(outputs),
                "minutes": f"{minutes:g}",
                "peak_mb": f"{median:.0f}",
                "least_mb": f"{min(peak):.0f}",
                "most_mb": f"{max(peak):.0f}",
                "runs": runs,
                "ratio_to_shorter": f"{median / shorter:.3f}",
                "seconds": f"{statistics.median(seconds):.1f}",
            }
            rows.append(row | machine())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", help="a video; a Toybox clip by default")
    parser.add_argument("--minutes", type=float, nargs=2, default=(3, 30))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=RESULTS / "memory.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, clip = Path(temporary), given.clip
        if clip is None:
            rendered = render_clip(Plan(seed=1_000_000_001, seconds=30), 0, folder)
            clip = folder / "videos" / f"{rendered}.mp4"
        name = given.clip.name if given.clip else "toybox"
        rows = measure(clip, folder, given.minutes, name=name, runs=given.runs)
    write_csv(given.csv, rows)
    worst = max(float(row["ratio_to_shorter"]) for row in rows)
    most = max(float(row["most_mb"]) for row in rows)
    flat = worst <= 1 + MOST_GROWTH / 100 and most < MOST_MB
    print(f"x{worst:.3f}, at most {most:.0f} MB: {'flat' if flat else 'GROWS'}")


if __name__ == "__main__":
    main()
