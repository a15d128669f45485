"""Label files of any format, read as the events of a job, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from unicodedata import category

from avel.errors import AvelError, UsageError
from avel.formats import on_file, read_all
from avel.formats.base import media_name
from avel.types import BACKGROUND, Event, Json, Timeline
from avel.web.worker import renamed

#: Most events of one correction, and most characters of a label.
MOST_EVENTS, LONGEST_LABEL = 10_000, 200
#: Limits of reading a label file: time and memory.
SECONDS, MEGABYTES = 30.0, 512


def read_labels(
    path: Path, name: str, job: str, duration: float, step: float, player_start: float = 0.0
) -> Json:
    """The events of a label file of any format; those that don't fit the job's file are left out.

    Args:
        path: The file, with the ending of its format.
        name: Its name for people.
        job: The name of the job's file; it selects the labels where there are several videos.
        duration: Seconds of the job's file.
        step: Segment length in seconds.
        player_start: The player's time of second 0 of the job's file, in seconds.

    Returns:
        ``events`` in order of time, and ``notes`` of what was left out.

    Raises:
        AvelError: if no timeline can be read, or none is the job's.
    """
    try:
        timeline = on_file(_of_video(read_all(path), job, name), path, player_start).choose("both")
    except AvelError as e:
        raise renamed(renamed(e, path, name), path.name, name) from e
    events: list[Event] = []
    notes = [note.replace(path.name, name) for note in timeline.notes]
    single = len(timeline.audio_only) + len(timeline.visual_only)
    notes += [f"Left out: {single} that are only heard or only seen."] * bool(single)
    for event in timeline:
        mistakes = mistakes_of(event.start, event.end, event.label, duration, step)
        if mistakes or len(events) >= MOST_EVENTS:
            reason = mistakes[0] if mistakes else f"more than {MOST_EVENTS} events"
            notes += [f"Left out: {event.label[:80]!r}: {reason}."] if len(notes) < 20 else []
        else:
            events.append(event)
    return {"events": [e.to_json() for e in sorted(events)], "notes": notes}


def _of_video(timelines: Sequence[Timeline], job: str, name: str) -> Timeline:
    if len(timelines) == 1:
        return timelines[0]
    stem = PurePosixPath(job).stem
    matches = [t for t in timelines if PurePosixPath(media_name(t.video, "")).stem == stem]
    if len(matches) != 1:
        raise UsageError(
            f"{name} holds the events of {len(timelines)} videos",
            expected=f"those of one, or of one called {job}",
            hint="split it with `avel convert`",
        )
    return matches[0]


def mistakes_of(start: float, end: float, label: str, duration: float, step: float) -> list[str]:
    """What is wrong with an event of a file of ``duration`` seconds, a sentence each."""
    mistakes = []
    if end <= start:
        mistakes.append(f"ends at {end:g} s and begins at {start:g} s")
    if start >= duration or end > duration + step:
        mistakes.append(f"from {start:g} to {end:g} s, the file ends at {duration:g} s")
    if not 0 < len(label) <= LONGEST_LABEL or label != label.strip():
        mistakes.append(f"a label of {len(label)} characters, or with spaces around it")
    if any(category(c) in {"Cc", "Cs", "Zl", "Zp", "Cn"} for c in label):
        mistakes.append("a label with control characters")
    if label.lower() == BACKGROUND:
        mistakes.append("background is no event: delete it")
    return mistakes
