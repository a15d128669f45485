"""Exports: files of labels, the report's page, and copies of the video that show the events."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avel.errors import AvelError, UsageError
from avel.files import write_whole
from avel.formats import format_endings, format_named
from avel.report.clips import safe_name
from avel.types import Event, Timeline
from avel.web.job_folder import load_result
from avel.web.worker import renamed

#: Forms of the report besides the formats of labels: they read the video.
REPORT_FORMATS = {"html": ".html", "mp4": ".mp4"}


def export_endings() -> dict[str, str]:
    """All that a result can be exported as, with the endings."""
    return format_endings() | REPORT_FORMATS


def export_name(name: str, format: str) -> str:
    """What an export is called: the media file's stem and the format's ending.

    Raises:
        UsageError: for an unknown format.
    """
    if format not in export_endings():
        raise UsageError(
            f"no format {format[:40]!r}",
            expected=f"one of {', '.join(export_endings())}",
            hint="choose one",
        )
    return f"{safe_name(Path(name).stem)}{export_endings()[format]}"


def label_file(timeline: Timeline, events: Sequence[Event] | None, format: str) -> bytes:
    """A file of labels.

    Args:
        timeline: What was found.
        events: Those of a correction, which then stand alone; None for the found ones.
        format: One of the formats' names.

    Raises:
        DataError: for what the format can't hold.
    """
    timeline = timeline if events is None else _corrected(timeline, events, scores=False)
    content = format_named(format).dump(timeline, Path(export_name(timeline.video, format)))
    return content if isinstance(content, bytes) else content.encode()


def _corrected(timeline: Timeline, events: Sequence[Event], *, scores: bool) -> Timeline:
    """The timeline with other events; what is of one modality stays beside scores alone."""
    names = dict.fromkeys([*timeline.classes, *(e.label for e in events)])
    changed = replace(timeline, events=tuple(events), classes=tuple(names), corrected=True)
    if not scores:
        return replace(changed, scores=None, audio_only=(), visual_only=())
    return replace(
        changed,
        audio_only=_beside(timeline.audio_only, events),
        visual_only=_beside(timeline.visual_only, events),
    )


def _beside(apart: Sequence[Event], events: Sequence[Event]) -> tuple[Event, ...]:
    """Those that no event of their label overlaps."""
    return tuple(
        a
        for a in apart
        if not any(e.label == a.label and e.start < a.end and a.start < e.end for e in events)
    )


def write_report(
    folder: Path, media: Path, name: str, events: Sequence[Event] | None, target: Path
) -> None:
    """The page, or a copy of the video that shows the events; to be called in a process apart.

    Args:
        folder: The job's.
        media: Its file.
        name: What people call it.
        events: Those of a correction, or None for the found ones.
        target: Where to, with the ending of one of ``REPORT_FORMATS``.

    Raises:
        AvelError: if the video can't be read.
    """
    timeline = load_result(folder)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        link = Path(place) / f"{safe_name(Path(name).stem)}{media.suffix.lower()}"
        link.symlink_to(media.absolute())
        timeline = replace(timeline, video=str(link))
        if events is not None:
            timeline = _corrected(timeline, events, scores=True)
        try:
            if target.suffix == ".html":
                from avel.report.page import render

                write_whole(target, render(timeline, page=None).encode("utf-8", "replace"))
            else:
                timeline.save(target)
        except AvelError as e:
            raise renamed(e, link, name) from e
