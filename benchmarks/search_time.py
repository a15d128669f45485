"""Seconds of `avel match` over a folder of clips and a copy of it; write results/search_time.csv.

    python benchmarks/search_time.py CLIPS [--copies 2]

Every search is a process of its own, start-up included: with an empty cache, with the features
cached, with an index that is made from the cache, and with the index (the query is one of its
files; then a file that it doesn't have). Each copy has a few bytes more than its clip, which
decoders skip: every file is another content, and none serves another one from the cache.
Rows of other processors stay in the table.
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
    """The clips in ``folder``, each several times, with names and contents of their own."""
    files = []
    for number in range(copies):
        for clip in sorted(p for p in clips.iterdir() if p.is_file()):
            file = folder / f"{number}_{clip.name}"
            shutil.copyfile(clip, file)
            with file.open("ab") as end:  # an empty box of MP4 and QuickTime
                end.write(b"\0\0\0\x0cfree" + number.to_bytes(4, "big"))
            files.append(file)
    return files


def rows(clips: Path, copies: int) -> list[dict[str, Any]]:
    """A row a search."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        searched = Path(folder) / "searched"
        searched.mkdir()
        files = copied(clips, searched, copies)
        other = copied(clips, Path(folder), copies + 1)[-1]
        os.environ["AVEL_CACHE"] = str(Path(folder) / "cache")
        index = ("--index", Path(folder) / "clips.safetensors")
        settings: dict[str, tuple[Path, tuple[str | Path, ...]]] = {
            "empty cache": (files[0], ()), "cached": (files[0], ()),
            "index made from the cache": (files[0], index), "index": (files[0], index),
            "index, another query": (other, index), "no cache": (files[0], ("--no-cache",)),
        }  # fmt: skip
        run_avel("match", "--help")  # compiles modules where that was never done
        for name, (query, options) in settings.items():
            ran = run_avel("match", "--query", query, "--in", searched, "--json", *options)
            if ran.code:
                raise SystemExit(ran.err)
            row = {"search": name, "files": len(files), "seconds": round(ran.seconds, 2)}
            row |= {"core_seconds": ran.core_seconds}
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
    table = [row | here for row in rows(options.clips, options.copies)]
    write_csv(options.csv, table, beside=True)


if __name__ == "__main__":
    main()
