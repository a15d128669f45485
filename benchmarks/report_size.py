"""What the report of a long video weighs and takes; write results/report_size.csv.

    python benchmarks/report_size.py                # a Toybox clip, rendered and looped
    python benchmarks/report_size.py clip.mp4       # a video of one's own, looped

The video is real, made of the same packets again and again; events, curves and attention maps are
made up, with an event every few seconds of 28 classes, so that what the page bounds is reached. So
it is the report alone that is measured, without the model: `seconds` is what `-o NAME.html` adds to
a search of that length.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, given_or_toybox, loop, machine, write_csv

from avel.inference.localizer import to_events
from avel.media.file import open_media
from avel.report import page
from avel.types import Grid, Scores, Timeline

#: Most bytes of a report whose video is linked.
MOST = 3_000_000
CLASSES = tuple(f"a class with a name of its own {i}" for i in range(28))


def made_up(video: Path, duration: float, *, seed: int = 0) -> Timeline:
    """A timeline of stretches of one to nine seconds, each of some class or of none."""
    rng, grid = np.random.default_rng(seed), Grid(duration)
    count = len(grid)
    lengths = rng.integers(1, 10, count)
    labels = np.repeat(rng.integers(0, len(CLASSES) + 1, count), lengths)[:count]
    values = rng.dirichlet(np.ones(len(CLASSES) + 1), count)
    values[np.arange(count), labels] += 1.0
    values /= values.sum(1, keepdims=True)
    attention = rng.dirichlet(np.full(49, 0.1), count).reshape(-1, 7, 7)
    known = rng.random((2, count)) > 0.3
    scores = Scores(
        values, CLASSES, grid, labels, attention=attention, audible=known[0], visible=known[1]
    )
    events = tuple(to_events(scores, require_both=False))
    return Timeline(str(video), events, duration, CLASSES, scores)


def measure(clip: Path, folder: Path, minutes: float, *, name: str) -> dict[str, Any]:
    """A row: the looped video's report without sound, and whole."""
    video = folder / f"{minutes:g}.mkv"
    loop(clip, video, seconds=60 * minutes)
    timeline = made_up(video, open_media(video).duration)
    told = {}
    for sound in (False, True):
        start = time.perf_counter()
        text = page.render(timeline, page=folder / "report.html", embed=0, spectrogram=sound)
        told[sound] = len(text.encode()), time.perf_counter() - start
    row = {
        "clip": name,
        "minutes": f"{minutes:g}",
        "video_mb": f"{video.stat().st_size / 1e6:.1f}",
        "events": len(timeline.events),
        "report_mb": f"{told[True][0] / 1e6:.2f}",
        "seconds": f"{told[True][1]:.1f}",
        "seconds_without_sound": f"{told[False][1]:.1f}",
    }
    video.unlink()
    return row | machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", help="a video; a Toybox clip by default")
    parser.add_argument("--minutes", type=float, nargs="+", default=(1, 10, 60, 180))
    parser.add_argument("--csv", type=Path, default=RESULTS / "report_size.csv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip, name = given_or_toybox(given.clip, folder, seconds=10)
        rows = [measure(clip, folder, m, name=name) for m in sorted(given.minutes)]
    write_csv(given.csv, rows, beside=True, case=("clip", "minutes"))
    largest = max(float(row["report_mb"]) for row in rows)
    print(f"at most {largest:.2f} MB: {'bounded' if largest < MOST / 1e6 else 'TOO LARGE'}")


if __name__ == "__main__":
    main()
