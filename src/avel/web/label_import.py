"""Labels from files of any format, as the events of a job: read in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from unicodedata import category

from avel.errors import AvelError, UsageError
from avel.formats import on_file, read_all
from avel.formats.base import media_name
from avel.types import BACKGROUND, Event, Json, Timeline
from avel.web.worker import renamed

#: Events of one correction, and characters of a label, at most.
MOST_EVENTS, LONGEST_LABEL = 10_000, 200
#: Seconds and megabytes that reading a label file may take.
SECONDS, MEGABYTES = 30.0, 512


def read_labels(
    path: Path, named: str, job: str, duration: float, step: float, player_start: float = 0.0
) -> Json:
    """The events in a label file of any format, those that don't fit the job's file left out.

    Args:
        path: The file, its ending that of its format.
        named: What people call it.
        job: What people call the job's file; labels of several videos are chosen by it.
        duration: Seconds of the job's file.
        step: Seconds a segment.
        player_start: What a browser's player calls second 0 of the job's file.

    Returns:
        ``events`` in order of time, and ``notes`` of what was left out.

    Raises:
        AvelError: if no timeline can be read, or none is the job's.
    """
    try:
        found = on_file(_own(read_all(path), job, named), path, player_start).choose("both")
    except AvelError as e:
        raise renamed(renamed(e, path, named), path.name, named) from e
    events: list[Event] = []
    notes = [note.replace(path.name, named) for note in found.notes]
    apart = len(found.audio_only) + len(found.visual_only)
    notes += [f"Left out: {apart} that are only heard or only seen."] * bool(apart)
    for event in found:
        wrong = mistakes_of(event.start, event.end, event.label, duration, step)
        if wrong or len(events) >= MOST_EVENTS:
            left = wrong[0] if wrong else f"more than {MOST_EVENTS} events"
            notes += [f"Left out: {event.label[:80]!r}: {left}."] if len(notes) < 20 else []
        else:
            events.append(event)
    return {"events": [e.to_json() for e in sorted(events)], "notes": notes}


def _own(found: Sequence[Timeline], job: str, named: str) -> Timeline:
    if len(found) == 1:
        return found[0]
    stem = PurePosixPath(job).stem
    own = [t for t in found if PurePosixPath(media_name(t.video, "")).stem == stem]
    if len(own) != 1:
        raise UsageError(
            f"{named} holds the events of {len(found)} videos",
            expected=f"those of one, or of one called {job}",
            hint="split it with `avel convert`",
        )
    return own[0]


def mistakes_of(start: float, end: float, label: str, duration: float, step: float) -> list[str]:
    """What is wrong with an event of a file that lasts so long."""
    wrong = []
    if end <= start:
        wrong.append(f"ends at {end:g} s and begins at {start:g} s")
    if start >= duration or end > duration + step:
        wrong.append(f"from {start:g} to {end:g} s, the file ends at {duration:g} s")
    if not 0 < len(label) <= LONGEST_LABEL or label != label.strip():
        wrong.append(f"a label of {len(label)} characters, or with spaces around it")
    if any(category(c) in {"Cc", "Cs", "Zl", "Zp", "Cn"} for c in label):
        wrong.append("a label with control characters")
    if label.lower() == BACKGROUND:
        wrong.append("background is no event: delete it")
    return wrong
