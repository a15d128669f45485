"""Reports: timelines to files and back, by file ending."""

from __future__ import annotations

from pathlib import Path

from avel.report.writers import read, writer_for
from avel.types import Timeline

__all__ = ["read", "save"]


def save(timeline: Timeline, path: str | Path) -> None:
    """Write a timeline, whole or not at all; the ending chooses the writer.

    Raises:
        UsageError: if no writer has that ending; the known ones are named.
    """
    writer_for(path).write(timeline, Path(path))
