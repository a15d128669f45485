"""How long rendering Pairs-10 takes, and whether two renderings are the same; write render.csv.

    python benchmarks/render.py --sounds ESC-10 --images CIFAR-10      # results/render.csv

Renders all of it with two processes; then, into another folder, the clips of a smaller call with
one process, and compares those clips' truth byte by byte and every decoded picture.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_csv


def render(folder: Path, given: argparse.Namespace, *, clips: int | None, jobs: int) -> list[Path]:
    """The truths of a folder's clips, rendered."""
    from avel.data.composer.bank import find_sources
    from avel.data.composer.dataset import ComposerPlan, compose
    from avel.data.composer.reading import read_pairs

    pairs = read_pairs("pairs10")
    bank = find_sources(pairs, sounds=given.sounds, images=given.images)
    compose(folder, ComposerPlan(pairs, bank), clips=clips, jobs=jobs)
    return sorted((folder / "truth").iterdir())


def same_pictures(one: Path, other: Path) -> bool:
    """Whether two files decode to the same pictures."""
    import av
    import numpy as np

    with av.open(str(one)) as a, av.open(str(other)) as b:
        pairs = zip(a.decode(video=0), b.decode(video=0), strict=True)
        return all(np.array_equal(x.to_ndarray(), y.to_ndarray()) for x, y in pairs)


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The row."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    whole = render(folder / "whole", given, clips=given.clips, jobs=given.jobs)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = render(folder / "again", given, clips=given.again, jobs=1)
    truths = [(folder / "whole" / "truth" / t.name).read_bytes() == t.read_bytes() for t in again]
    videos = [f"videos/{t.stem}.mp4" for t in again]
    pictures = [same_pictures(folder / "whole" / v, folder / "again" / v) for v in videos]
    return {
        "clips": len(whole), "jobs": given.jobs, "seconds": f"{took:.0f}",
        "core_seconds": f"{sum(after[:2]) - sum(before[:2]):.0f}",
        "clips_a_second": f"{len(whole) / took:.2f}", "rendered_again": len(again),
        "same_truth": sum(truths), "same_pictures": sum(pictures),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sounds", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--clips", type=int, help="fewer than all, for a try")
    parser.add_argument("--again", type=int, default=50, help="clips to render twice")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=RESULTS / "render.csv")
    given = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(given, Path(folder))
    write_csv(given.csv, [row | where], beside=True)
    print(row)


if __name__ == "__main__":
    main()
