"""Exports: label files, the report's page, and copies of the video that show the events."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from avel.errors import AvelError, UsageError
from avel.files import unused_name, write_whole
from avel.formats import format_endings, format_named
from avel.report.clips import safe_name
from avel.report.writers import titles
from avel.types import Event, Timeline
from avel.web.job_folder import load_result
from avel.web.worker import renamed

#: Exports besides the label formats: they read the video.
REPORT_FORMATS = {"html": ".html", "mp4": ".mp4"}
#: The note of a corrected export, in the formats that hold notes.
CORRECTED_NOTE = "The events were corrected by a person; the scores are not the model's."


@dataclass(frozen=True)
class ExportJob:
    """What an export needs of a job; picklable.

    Args:
        folder: The job's folder with its result.
        name: The file's name for people.
        media: The file itself.
        video: What label files call the video: its path within a root, or an upload's name.
        events: The events of a correction; None for the model's.
        options: The decision of the model's events, as of ``load_result``.
    """

    folder: Path
    name: str
    media: Path
    video: str
    events: tuple[Event, ...] | None = None
    options: Mapping[str, float | None] = field(default_factory=dict)

    def timeline(self, *, scores: bool) -> Timeline:
        """The timeline to export.

        Args:
            scores: Whether a corrected timeline keeps the model's scores of the segments.

        Raises:
            DataError: if the result can't be read.
            UsageError: for options out of range.
        """
        result = replace(load_result(self.folder, **self.options), video=self.video)
        if self.events is not None:
            return _corrected(result, self.events, scores=scores)
        return result


def export_endings() -> dict[str, str]:
    """The endings of all export formats, by name."""
    return format_endings() | REPORT_FORMATS


def export_titles() -> dict[str, str]:
    """The names for people of all export formats, by name: ``"ELAN"``, ``"Table (CSV)"``."""
    known = titles()
    return {name: known.get(ending, name) for name, ending in REPORT_FORMATS.items()} | {
        name: format_named(name).title for name in format_endings()
    }


def export_name(name: str, format: str) -> str:
    """The file name of an export: the media file's stem and the format's ending.

    Raises:
        UsageError: for an unknown format.
    """
    if format not in export_endings():
        raise UsageError(
            f"no format {format[:40]!r}",
            expected=f"one of {', '.join(export_endings())}",
            hint="choose one",
        )
    return f"{export_stem(name)}{export_endings()[format]}"


def export_stem(name: str) -> str:
    """The name of an export without its ending."""
    return safe_name(Path(name).stem)


def label_file(job: ExportJob, format: str) -> bytes:
    """The content of a label file.

    Args:
        job: What to export.
        format: One of the formats' names.

    Raises:
        DataError: for what the format can't hold, or a result that can't be read.
    """
    content = format_named(format).dump(
        job.timeline(scores=False), Path(export_name(job.name, format))
    )
    return content if isinstance(content, bytes) else content.encode()


def write_label_file(job: ExportJob, format: str, target: Path) -> None:
    """Write a label file; to be called in a bounded process where the video may be read."""
    write_whole(target, label_file(job, format))


def write_archive(jobs: Sequence[ExportJob], format: str, target: Path) -> None:
    """Write a ZIP file with a label file of each job; for a bounded process.

    What can't be written is named in ``errors.txt`` within the archive; the others are there.

    Args:
        jobs: What to export.
        format: One of the label formats' names.
        target: The ZIP file.
    """
    ending = export_endings()[format]
    names: set[str] = set()
    errors: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for job in jobs:
            name = unused_name(export_stem(job.name), names, ending)
            names.add(name)
            try:
                archive.writestr(name, label_file(job, format))
            except AvelError as e:
                errors.append(f"{job.name}: {e.got}")
        if errors:
            archive.writestr("errors.txt", "\n".join(errors) + "\n")


def _corrected(timeline: Timeline, events: Sequence[Event], *, scores: bool) -> Timeline:
    """The timeline with a person's events, each of score 1.

    Events of a single modality stay only beside scores, where no corrected event overlaps them.
    """
    names = dict.fromkeys([*timeline.classes, *(e.label for e in events)])
    changed = replace(
        timeline,
        events=tuple(replace(e, score=1.0) for e in events),
        classes=tuple(names),
        notes=(*timeline.notes, CORRECTED_NOTE),
        corrected=True,
    )
    if not scores:
        return replace(changed, scores=None, audio_only=(), visual_only=())
    return replace(
        changed,
        audio_only=_not_overlapped(timeline.audio_only, events),
        visual_only=_not_overlapped(timeline.visual_only, events),
    )


def _not_overlapped(single: Sequence[Event], events: Sequence[Event]) -> tuple[Event, ...]:
    """The events of a single modality that no event of their label overlaps."""
    return tuple(
        s
        for s in single
        if not any(e.label == s.label and e.start < s.end and s.start < e.end for e in events)
    )


def write_report(job: ExportJob, target: Path) -> None:
    """Write the page, or a copy of the video that shows the events; for a bounded process.

    Args:
        job: What to export.
        target: Where to, with the ending of one of ``REPORT_FORMATS``.

    Raises:
        AvelError: if the video can't be read.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        link = Path(folder) / f"{export_stem(job.name)}{job.media.suffix.lower()}"
        link.symlink_to(job.media.absolute())
        timeline = replace(job.timeline(scores=True), video=str(link))
        try:
            if target.suffix == ".html":
                from avel.report.page import render

                write_whole(target, render(timeline, page=None).encode("utf-8", "replace"))
            else:
                timeline.save(target)
        except AvelError as e:
            raise renamed(e, link, job.name) from e
