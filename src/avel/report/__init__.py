"""Reports: timelines to files and back, by file ending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avel.formats import read, read_all
from avel.report.writers import writer_for
from avel.types import Timeline

__all__ = ["read", "read_all", "save", "save_all"]


def save(timeline: Timeline, path: str | Path, *, format: str | None = None) -> None:
    """Write a timeline, whole or not at all; the ending, or a format's name, chooses the writer.

    Raises:
        UsageError: if no writer has that ending or name; the known ones are named.
    """
    writer_for(path, format=format).write(timeline, Path(path))


def save_all(timelines: Sequence[Timeline], path: str | Path, *, format: str | None = None) -> None:
    """Write the events of several videos into one file: .csv, .tsv or .labelstudio.json.

    Raises:
        UsageError: as for :func:`save`, or if the format holds one video a file.
    """
    writer_for(path, format=format).write_all(timelines, Path(path))
