"""Runs docs/gallery.md: makes the runs it draws from where they are missing, then its pictures.

    python scripts/gallery.py FOLDER --labels DIR

FOLDER keeps data and runs (an hour on two cores, 4 GB); a command that was run isn't run again.
DIR holds AVE's Annotations.txt and order files. The pictures go to docs/images.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from avel.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gallery.md"
_BLOCK = re.compile(r"(?:^(<!-- not run: )[^\n]*\n)?^```(sh|python)\n(.*?)^```", re.S | re.M)
_PICTURE = re.compile(r"\]\((images/[^)]+)\)")


def blocks(page: str) -> list[tuple[str, str]]:
    """The page's code in order: ``sh``, ``python``, or ``setup`` (which tests don't run)."""
    return [("setup" if mark else kind, code) for mark, kind, code in _BLOCK.findall(page)]


def pictures(page: str) -> list[str]:
    """The pictures that the page shows."""
    return _PICTURE.findall(page)


def prepare(page: str, log: Path = Path("done.txt")) -> None:
    """Run the setup's commands in the current folder; those in the log were run before."""
    before = log.read_text("utf-8").splitlines() if log.exists() else []
    for line in (line for kind, code in blocks(page) if kind == "setup" for line in lines(code)):
        if line not in before:
            print(line, flush=True)
            call(line)
            with log.open("a", encoding="utf-8") as f:
                f.write(line + "\n")


def lines(code: str) -> list[str]:
    """The commands of a block."""
    return [line for line in code.splitlines() if line]


def call(line: str) -> None:
    """One command of avel; the script ends where it fails."""
    if main(shlex.split(line)[1:]) != 0:
        raise SystemExit(f"failed: {line}")


def run(page: str) -> None:
    """Run the page's other code in the current folder, one Python namespace for all of it."""
    names: dict[str, object] = {}
    for kind, code in blocks(page):
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
        elif kind == "sh":
            for line in lines(code):
                call(line)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder as the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def build(folder: Path, labels: Path) -> None:
    """Everything, the pictures copied into the docs."""
    page = PAGE.read_text("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    with inside(folder):
        if not Path("data/AVE").exists():
            Path("data").mkdir(exist_ok=True)
            Path("data/AVE").symlink_to(labels.resolve(), target_is_directory=True)
        prepare(page)
        run(page)
        for name in pictures(page):
            shutil.copy(name, PAGE.parent / name)
            print(name, Path(name).stat().st_size // 1024, "KB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="AVE's text and order files")
    given = parser.parse_args()
    build(given.folder, given.labels)
