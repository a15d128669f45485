"""Exports: labels at once; what opens the video, in a process of its own that can be stopped."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from avel.errors import AvelError, DataError, UsageError
from avel.files import disk_error, write_whole
from avel.formats import format_endings, format_named
from avel.report.clips import safe_name
from avel.types import Event, Timeline
from avel.web.kept import load_result
from avel.web.refusal import refuse
from avel.web.work import renamed

#: Forms of the report besides the formats of labels: they read the video.
FORMS = {"html": ".html", "mp4": ".mp4"}
_WAIT = 10.0  # seconds for another one to end
_ONE = threading.BoundedSemaphore(1)  # such a process takes as much memory as a job


def endings() -> dict[str, str]:
    """All that a result can be exported as, with the endings."""
    return format_endings() | FORMS


def export_name(name: str, format: str) -> str:
    """What an export is called: the media file's stem and the format's ending.

    Raises:
        UsageError: for an unknown format.
    """
    if format not in endings():
        raise UsageError(
            f"no format {format[:40]!r}", wanted=f"one of {', '.join(endings())}", do="choose one"
        )
    return f"{safe_name(Path(name).stem)}{endings()[format]}"


def as_labels(found: Timeline, events: Sequence[Event] | None, format: str) -> bytes:
    """A file of labels.

    Args:
        found: What was found.
        events: Those of a correction, which then stand alone; None for the found ones.
        format: One of the formats' names.

    Raises:
        DataError: for what the format can't hold.
    """
    timeline = found if events is None else _corrected(found, events, scores=False)
    content = format_named(format).dump(timeline, Path(export_name(found.video, format)))
    return content if isinstance(content, bytes) else content.encode()


def _corrected(found: Timeline, events: Sequence[Event], *, scores: bool) -> Timeline:
    names = dict.fromkeys([*found.classes, *(e.label for e in events)])
    changed = replace(found, events=tuple(events), classes=tuple(names))
    return changed if scores else replace(changed, scores=None)


def as_report(
    folder: Path, media: Path, name: str, events: Sequence[Event] | None, format: str,
    target: Path, *, seconds: float,
) -> None:  # fmt: skip
    """The page, or a copy of the video that shows the events, written to ``target``.

    Args:
        folder: The job's.
        media: Its file.
        name: What people call it.
        events: Those of a correction, or None for the found ones.
        format: A name of ``FORMS``.
        target: Where to, with the form's ending.
        seconds: The process is stopped after so many.

    Raises:
        HTTPException: 429 where another such export is being made.
        AvelError: if the video can't be read, or time is up.
    """
    if not _ONE.acquire(timeout=_WAIT):
        raise refuse(
            429, "another export that is being made", "one at a time", "try again later",
            Retry_After="30",
        )  # fmt: skip
    try:
        _in_process((folder, media, name, events, target), seconds, what=f"{name} as {format}")
    finally:
        _ONE.release()


def _in_process(arguments: tuple[Any, ...], seconds: float, *, what: str) -> None:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        error = ours.recv() if ours.poll(seconds) else DataError(f"{what}: took too long")
    except (EOFError, OSError):
        error = DataError(f"{what}: the process that wrote it died")
    finally:
        process.kill()
        process.join()
        ours.close()
    if error is not None:
        raise error


def _write(
    pipe: Connection, folder: Path, media: Path, name: str, events: Sequence[Event] | None,
    target: Path,
) -> None:  # fmt: skip
    """In the process: the report's own writers, for the file under the name that people know."""
    found = load_result(folder)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        link = Path(place) / f"{safe_name(Path(name).stem)}{media.suffix.lower()}"
        link.symlink_to(media.absolute())
        timeline = replace(found, video=str(link))
        if events is not None:
            timeline = _corrected(timeline, events, scores=True)
        try:
            if target.suffix == ".html":
                from avel.report.page import render

                write_whole(target, render(timeline, page=None).encode("utf-8", "replace"))
            else:
                timeline.save(target)
        except AvelError as e:
            pipe.send(renamed(e, link, name))
        except OSError as e:
            pipe.send(disk_error(e, name))
        except Exception as e:
            pipe.send(DataError(f"{name}: stumbled over something ({type(e).__name__})"))
        else:
            pipe.send(None)
