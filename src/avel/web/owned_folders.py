"""Folders in which `avel serve` writes and removes files: marked as its own, others refused."""

from __future__ import annotations

from pathlib import Path

from avel.errors import DataError
from avel.files import disk_error, write_whole


def claim_folder(
    folder: Path,
    mark: str,
    text: str,
    *,
    option: str,
    known: bool = False,
    expected: str = "a new folder, an empty one, or one of its own",
) -> None:
    """Mark a folder as the server's own, or check that it is.

    Args:
        folder: New, empty, or marked before; created where it is missing.
        mark: The name of the file that marks it.
        text: The content of that file.
        option: The option that named the folder, for the message.
        known: Whether the folder may be used without a mark: it is of an older version, or a
            data set.
        expected: What folders are possible, for the message.

    Raises:
        DataError: for a folder that holds something else (nothing in it is touched), and for one
            that can't be read or written.
    """
    try:
        if folder.exists() and not (folder / mark).is_file() and not known and _has_content(folder):
            raise DataError(
                f"{folder} holds files that `avel serve` didn't write",
                expected=expected,
                hint=f"choose another one with {option}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / mark).is_file():
            write_whole(folder / mark, text)
    except OSError as e:
        error = disk_error(e, folder)
        raise DataError(error.got, hint=f"{error.hint}; {option} names another one") from e


def _has_content(folder: Path) -> bool:
    """Whether the folder isn't empty, or the path is a file."""
    return not folder.is_dir() or any(folder.iterdir())
