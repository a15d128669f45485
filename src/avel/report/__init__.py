"""Reports: timelines to files and back, by file ending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avel.formats import Format, read, read_all
from avel.report.writers import Writer, check_output, writer_for
from avel.types import Timeline

__all__ = ["read", "read_all", "save", "save_all"]


def save(
    timeline: Timeline,
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = False,
    scores: bool = False,
) -> None:
    """Write a timeline, whole or not at all.

    Arguments and errors are those of :meth:`avel.types.Timeline.save`.
    """
    _writer([timeline], timeline.video, path, format, overwrite, scores).write(timeline, Path(path))


def save_all(
    timelines: Sequence[Timeline],
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = False,
    scores: bool = False,
) -> None:
    """Write the events of several videos into one file: .csv, .tsv or .labelstudio.json.

    Raises:
        UsageError: as for :func:`save`, or if the format holds one video a file.
    """
    _writer(timelines, "", path, format, overwrite, scores).write_all(timelines, Path(path))


def _writer(
    timelines: Sequence[Timeline], video: str, path: str | Path, format: str | None,
    overwrite: bool, scores: bool,
) -> Writer:  # fmt: skip
    """The writer, after the check that it replaces no labels of a person."""
    writer = writer_for(path, format=format)
    writer.with_scores = scores
    if any(t.predicted for t in timelines) and isinstance(writer, Format):
        check_output(writer, video, Path(path), overwrite=overwrite)
    return writer
