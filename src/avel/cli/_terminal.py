"""What commands print: results, notes, errors and progress, by the level of ``-q`` and ``-v``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from avel.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

QUIET, NORMAL, VERBOSE = -1, 0, 1
_level = NORMAL


def set_level(level: int) -> None:
    """Choose among :data:`QUIET`, :data:`NORMAL` and :data:`VERBOSE` for this process."""
    global _level
    _level = level


def is_quiet() -> bool:
    """Whether only errors and results are printed."""
    return _level == QUIET


def is_verbose() -> bool:
    """Whether times and tracebacks are printed too."""
    return _level == VERBOSE


def fail(message: str) -> None:
    """Print an error on standard error."""
    typer.echo(f"avel: {printable(message)}", err=True)


def note(message: str) -> None:
    """Print a note on standard error, unless quiet."""
    if not is_quiet():
        fail(message)


def detail(message: str) -> None:
    """Print a detail, such as a time, on standard error, where verbose."""
    if is_verbose():
        fail(message)


def progress_console() -> tuple[Console, bool]:
    """The console of progress bars, and whether they are off: quiet, or no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return console, is_quiet() or not console.is_terminal
