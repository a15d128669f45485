"""Folders whose files may be localized where they lie: nothing outside of them is ever opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from avel.errors import UsageError
from avel.media.file import ENDINGS

#: Most folders and files of one folder that are listed.
MOST = 2000


@dataclass(frozen=True)
class Listing:
    """What a folder holds: names of folders, and media files with their bytes."""

    folder: str
    folders: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    more: bool


def named_roots(folders: Sequence[Path]) -> dict[str, Path]:
    """The allowed roots by name: the folder's own, numbered where two are alike.

    Raises:
        UsageError: for what is no folder.
    """
    roots: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--root {folder}: no folder", expected="a folder of videos")
        place = folder.resolve()
        name, number = place.name or "root", 1
        while name in roots:
            number += 1
            name = f"{place.name}-{number}"
        roots[name] = place
    return roots


def inside(roots: Mapping[str, Path], root: str, path: str) -> Path:
    """The place that a relative path means within a root, links followed.

    Args:
        roots: By name.
        root: One of the names.
        path: With ``/``.

    Raises:
        UsageError: if it leaves the root, or isn't there.
    """
    if root not in roots:
        raise UsageError(
            f"no root {root[:80]!r}",
            expected=f"one of {', '.join(roots)}" if roots else "none: the server has no roots",
            hint="name one, or start the server with --root DIR",
        )
    parts = PurePosixPath(path).parts
    outside = UsageError(
        f"{path[:200]!r} isn't in {root}",
        expected="a path within the root",
        hint="choose one there",
    )
    if path.startswith("/") or ".." in parts or "\0" in path or "\\" in path or ":" in path[:3]:
        raise outside
    try:
        place = roots[root].joinpath(*parts).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as e:
        raise outside from e
    if not place.is_relative_to(roots[root]):
        raise outside
    return place


def media_inside(roots: Mapping[str, Path], root: str, path: str) -> Path:
    """The same of a media file.

    Raises:
        UsageError: also if it is no regular file, or has another ending.
    """
    place = inside(roots, root, path)
    if not place.is_file() or place.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{path[:200]!r} is no media file", expected=f"one of {', '.join(sorted(ENDINGS))}"
        )
    return place


def listing(roots: Mapping[str, Path], root: str, folder: str) -> Listing:
    """The folders and media files of a folder, by name; hidden ones and ways out are left out.

    Raises:
        UsageError: as :func:`inside`, and for what is no folder.
    """
    place = inside(roots, root, folder)
    base = roots[root]
    inner = place.relative_to(base).as_posix()
    try:
        entries = sorted(os.scandir(place), key=lambda e: e.name)
    except OSError as e:
        raise UsageError(f"{folder[:200]!r} is no folder that can be read") from e
    shown = list(islice((e for e in entries if _shown(e, base)), MOST + 1))
    folders = tuple(e.name for e in shown[:MOST] if e.is_dir())
    files = tuple((e.name, e.stat().st_size) for e in shown[:MOST] if e.is_file())
    return Listing("" if inner == "." else inner, folders, files, len(shown) > MOST)


def _shown(entry: os.DirEntry[str], base: Path) -> bool:
    """Whether an entry is a folder or a media file that leads nowhere else."""
    if entry.name.startswith(".") or not _readable(entry.name):
        return False
    try:
        place = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # a link to nothing, or to itself
        return False
    media = entry.is_file() and Path(entry.name).suffix.lower() in ENDINGS
    return place.is_relative_to(base) and (media or entry.is_dir())


def _readable(name: str) -> bool:
    """Whether a name can be sent as text at all."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\\" not in name
