"""Folders that `avel serve` writes and removes files in: marked as its own, all others refused."""

from __future__ import annotations

from pathlib import Path

from avel.errors import DataError
from avel.files import disk_error, write_whole


def claim_folder(folder: Path, mark: str, text: str, *, option: str, known: bool = False) -> None:
    """Make a folder the server's own, or see that it is.

    Args:
        folder: New, empty, or marked before; made where it isn't there.
        mark: The name of the file that marks it.
        text: What that file tells a person who finds it.
        option: The option that named the folder, for the message.
        known: Whether the folder is the server's own without a mark: from before there were any.

    Raises:
        DataError: for a folder that holds something else (nothing in it is touched), and for one
            that can't be read or written.
    """
    try:
        if folder.exists() and not (folder / mark).is_file() and not known and _holds(folder):
            raise DataError(
                f"{folder} holds something that `avel serve` didn't write",
                expected="a new folder, an empty one, or one of its own",
                hint=f"choose another one with {option}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / mark).is_file():
            write_whole(folder / mark, text)
    except OSError as e:
        wrong = disk_error(e, folder)
        raise DataError(wrong.got, hint=f"{wrong.hint}; {option} names another one") from e


def _holds(folder: Path) -> bool:
    """Whether anything is in the folder; a file in its place counts as something."""
    return not folder.is_dir() or any(folder.iterdir())
