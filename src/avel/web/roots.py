"""Folders whose files may be localized in place: no file outside of them is ever opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from avel.errors import UsageError
from avel.files import MEDIA_ENDINGS, unused_name
from avel.web.schemas import FileInfo, Folder

#: Most folders and files that are listed of one folder.
MOST = 2000


def named_roots(folders: Sequence[Path]) -> dict[str, Path]:
    """The allowed roots by name: the folder's own, numbered where two are alike.

    Raises:
        UsageError: for what is no folder.
    """
    roots: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            missing = not folder.exists()
            raise UsageError(
                f"--root {folder}: "
                + ("there is no such folder" if missing else "it is no folder"),
                expected="a folder of videos",
            )
        target = folder.resolve()
        roots[unused_name(target.name or "root", roots)] = target
    return roots


def inside(roots: Mapping[str, Path], root: str, path: str) -> Path:
    """The file or folder of a relative path within a root, links resolved.

    Args:
        roots: By name.
        root: One of the names.
        path: With ``/``.

    Raises:
        UsageError: if it leaves the root, or doesn't exist.
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
        target = roots[root].joinpath(*parts).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as e:
        raise outside from e
    if not target.is_relative_to(roots[root]):
        raise outside
    return target


def media_inside(roots: Mapping[str, Path], root: str, path: str) -> Path:
    """The same for a media file.

    Raises:
        UsageError: also if it is no regular file, or has another ending.
    """
    target = inside(roots, root, path)
    if not target.is_file() or target.suffix.lower() not in MEDIA_ENDINGS:
        raise UsageError(
            f"{path[:200]!r} is no media file",
            expected=f"one of {', '.join(sorted(MEDIA_ENDINGS))}",
        )
    return target


def listing(roots: Mapping[str, Path], root: str, folder: str) -> Folder:
    """The folders and media files of a folder, by name; hidden ones and ways out are left out.

    Raises:
        UsageError: as :func:`inside`, and for what is no folder.
    """
    target = inside(roots, root, folder)
    base = roots[root]
    inner = target.relative_to(base).as_posix()
    try:
        entries = sorted(os.scandir(target), key=lambda e: e.name)
    except OSError as e:
        raise UsageError(f"{folder[:200]!r} is no folder that can be read") from e
    shown = list(islice((e for e in entries if _listed(e, base)), MOST + 1))
    front = "" if inner == "." else f"{inner}/"
    return Folder(
        folder=front.removesuffix("/"),
        folders=[e.name for e in shown[:MOST] if e.is_dir()],
        files=[
            FileInfo(path=front + e.name, name=e.name, size=e.stat().st_size)
            for e in shown[:MOST]
            if e.is_file()
        ],
        more=len(shown) > MOST,
    )


def _listed(entry: os.DirEntry[str], base: Path) -> bool:
    """Whether an entry is a folder or a media file within the root."""
    if entry.name.startswith(".") or not _readable(entry.name):
        return False
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # a link to nothing, or to itself
        return False
    media = entry.is_file() and Path(entry.name).suffix.lower() in MEDIA_ENDINGS
    return target.is_relative_to(base) and (media or entry.is_dir())


def _readable(name: str) -> bool:
    """Whether a name can be sent as text at all."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\\" not in name
