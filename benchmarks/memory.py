"""Peak memory of `avel localize` on 3 and 30 minutes; write results/memory.csv.

    python benchmarks/memory.py                 # a Toybox clip, rendered and looped
    python benchmarks/memory.py clip.mp4        # a video of one's own, looped without re-encoding

Both lengths are made of the same packets, so they differ in nothing but length.
"""

from __future__ import annotations

import argparse
import tempfile
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


def measure(clip: Path, folder: Path, *, minutes: float, outputs: tuple[str, ...]) -> Any:
    """Peak MB and seconds of one run, and whether it went well."""
    video = folder / f"{minutes:g}.mkv"
    if not video.is_file():
        loop(clip, video, seconds=60 * minutes)
    ran = run_avel("localize", video, "-o", *(folder / f"out{ending}" for ending in outputs))
    if ran.code:
        raise SystemExit(ran.err)
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", help="a video; a Toybox clip by default")
    parser.add_argument("--minutes", type=float, nargs=2, default=(3, 30))
    parser.add_argument("--csv", type=Path, default=RESULTS / "memory.csv")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip = given.clip
        if clip is None:
            name = render_clip(Plan(seed=1_000_000_001, seconds=30), 0, folder)
            clip = folder / "videos" / f"{name}.mp4"
        for outputs in ((".json",), (".json", ".html")):
            ran = [measure(clip, folder, minutes=m, outputs=outputs) for m in given.minutes]
            if any(r.peak_mb is None for r in ran):
                raise SystemExit("this system doesn't tell a process's peak memory (/proc)")
            ratio = ran[1].peak_mb / ran[0].peak_mb
            for minutes, one in zip(given.minutes, ran, strict=True):
                rows.append(
                    {
                        "clip": clip.name if given.clip else "toybox",
                        "outputs": " ".join(outputs),
                        "minutes": f"{minutes:g}",
                        "peak_mb": one.peak,
                        "ratio_to_shorter": f"{one.peak_mb / ran[0].peak_mb:.3f}",
                        "seconds": f"{one.seconds:.1f}",
                    }
                    | machine()
                )
            flat = 100 * (ratio - 1) <= MOST_GROWTH and ran[1].peak_mb < MOST_MB
            print(f"{' '.join(outputs)}: x{ratio:.3f}, {'flat' if flat else 'GROWS'}")
    write_csv(given.csv, rows)


if __name__ == "__main__":
    main()
