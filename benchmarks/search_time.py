"""Seconds of `avel match` over a folder of clips and a copy of it; write results/search_time.csv.

    python benchmarks/search_time.py CLIPS [--copies 2]

Every search is a process of its own, start-up included: with an empty cache, with the features
cached, with an index that is made from the cache, and with the index. Copies have other names and
the same content, so that the cache and not the decoder serves the second one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, machine, run_avel, write_csv


def copied(clips: Path, folder: Path, copies: int) -> list[Path]:
    """The clips in ``folder``, each several times under names of its own."""
    files = []
    for number in range(copies):
        for clip in sorted(p for p in clips.iterdir() if p.is_file()):
            file = folder / f"{number}_{clip.name}"
            shutil.copyfile(clip, file)
            files.append(file)
    return files


def rows(clips: Path, copies: int) -> list[dict[str, Any]]:
    """A row a search."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        searched = Path(folder) / "searched"
        searched.mkdir()
        files = copied(clips, searched, copies)
        os.environ["AVEL_CACHE"] = str(Path(folder) / "cache")
        index = ("--index", Path(folder) / "clips.safetensors")
        settings: dict[str, tuple[str | Path, ...]] = {
            "empty cache": (), "cached": (), "index made from the cache": index, "index": index,
            "no cache": ("--no-cache",),
        }  # fmt: skip
        for name, options in settings.items():
            ran = run_avel("match", "--query", files[0], "--in", searched, "--json", *options)
            if ran.code:
                raise SystemExit(ran.err)
            row = {"search": name, "files": len(files), "seconds": round(ran.seconds, 2)}
            row |= {"peak_mb": ran.peak, "load": round(os.getloadavg()[0], 1)}
            print(row, file=sys.stderr, flush=True)
            results.append(row)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=RESULTS / "search_time.csv")
    options = parser.parse_args()
    here = machine()
    here.pop("load", None)  # each row has that of its own end
    write_csv(options.csv, [row | here for row in rows(options.clips, options.copies)])


if __name__ == "__main__":
    main()
