"""What verbs that write several files share: what ``-o``'s values are, and events as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from avel.errors import DataError, printable

if TYPE_CHECKING:
    from avel.types import Timeline


def is_ending(output: str) -> bool:
    """Whether a value of ``-o`` is a bare ending, such as ``.json`` or ``.selections.txt``."""
    if len(output) < 2 or output[0] != "." or set(output) & set("/\\"):
        return False
    if output.count(".") == 1:
        return True
    from avel.report.writers import endings

    return output.lower() in endings()


def is_folder(path: Path) -> bool:
    """Whether a value of ``-o`` is a folder: one that is there, or a name without an ending."""
    return path.is_dir() or not path.suffix


def write_events(timeline: Timeline, *, clips: Path | None, thumbnails: Path | None) -> list[str]:
    """Cut the clips and save the pictures that were asked for.

    Returns:
        What was done, a line each.

    Raises:
        AvelError: if the video can't be read, or a file can't be written.
    """
    from avel.report.clips import cut_clips, save_thumbnails

    done = []
    for make, folder in ((cut_clips, clips), (save_thumbnails, thumbnails)):
        if folder is not None:
            try:
                made = make(timeline, folder)
            except OSError as e:
                raise unwritable(folder, e.strerror or str(e)) from e
            files = f"{len(made)} file{'s' * (len(made) != 1)}"
            done.append(f"wrote {files} into {printable(str(folder))}")
    return done


def unwritable(path: Path, why: str) -> DataError:
    """The error for a place that can't be written."""
    return DataError(f"{path} can't be written ({why})", hint="make room there, or choose another")


def check_places(paths: Sequence[Path]) -> None:
    """Refuse places that can't be written before a long video is gone through."""
    for path in paths:
        there = next(p for p in path.absolute().parents if p.exists())
        if not there.is_dir():
            raise unwritable(path, f"{there} is no folder")
        try:
            with TemporaryFile(dir=there):
                pass
        except OSError as e:
            raise unwritable(path, f"nothing can be written into {there}: {e.strerror}") from e
