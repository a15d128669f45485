"""Marks that tell a model's predictions from labels that a person made or corrected.

The mark is a digest of the events. While it matches, they are a model's predictions; once a person
has changed any, with any tool, it doesn't match, and the labels are that person's. It is stored in
the file where the format has room for it (``.json``, ``.vtt``, ``.eaf``, ``.otio``, ``.edl``; Label
Studio tells predictions from annotations itself), and otherwise beside it, in the hidden folder
``.avel``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from avel import clock
from avel.errors import DataError
from avel.files import file_exists, write_whole
from avel.types import MODALITIES, Event, Timeline

#: Key of the mark in a file.
KEY = "avel:predictions"
#: Key of a note about the video.
NOTE = "avel:note"
_FOLDER = ".avel"
#: The largest mark file that is read, in bytes.
_LARGEST = 2**24


def digest(events: Iterable[Event]) -> str:
    """A hash of labels, modalities and times in milliseconds, in any order of the events."""
    rows = sorted((*clock.span_ticks(e.start, e.end), e.label, e.modality) for e in events)
    text = json.dumps(rows, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def all_events(timeline: Timeline) -> list[Event]:
    """The events of all modalities, of all lists of a timeline."""
    return [e for modality in MODALITIES for e in timeline.lane(modality)]


def mark_of(timeline: Timeline, events: Iterable[Event]) -> str:
    """The mark of a timeline: the digest of the events that are written, and the model's name."""
    name = timeline.model.get("model", timeline.model.get("name", ""))
    return f"{digest(events)} {' '.join(str(name).split())[:100]}".strip()


def with_mark(timeline: Timeline, mark: str) -> Timeline:
    """A timeline read with a mark: predictions, corrected if the mark doesn't match.

    Which events a person corrected isn't known, so none keeps its audio weight and lag.
    """
    events_digest, _, name = mark.strip().partition(" ")
    if not events_digest:
        return timeline
    model = timeline.model
    if not model and timeline.scores is None:
        model = {"model": name or "avel"}
    timeline = replace(timeline, model=model)
    if events_digest == digest(all_events(timeline)):
        return timeline
    events = tuple(replace(e, audio_weight=None, lag=None) for e in timeline.events)
    return replace(timeline, events=events, corrected=True)


def _mark_path(path: Path) -> Path:
    name = hashlib.sha256(path.name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return path.parent / _FOLDER / f"predictions-{name}.json"


def write_beside(path: Path, marks: Mapping[str, str]) -> None:
    """Write the marks of a file's predictions beside it, or remove old ones if it has none.

    Args:
        path: The file of labels.
        marks: By the video's name in the file, of those with predictions.
    """
    mark_file = _mark_path(path)
    if marks:
        write_whole(
            mark_file, json.dumps({"file": path.name, "marks": dict(marks)}, indent=1) + "\n"
        )
    elif file_exists(mark_file):
        mark_file.unlink()


def read_beside(path: Path, timelines: Sequence[Timeline]) -> list[Timeline]:
    """The timelines of a file with the marks stored beside it."""
    mark_file = _mark_path(path)
    if not file_exists(mark_file):
        return list(timelines)
    marks: dict[str, str] = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if mark_file.stat().st_size <= _LARGEST:
            items = json.loads(mark_file.read_text("utf-8"))["marks"].items()
            marks = {str(name): str(mark) for name, mark in items}
    if len(timelines) == len(marks) == 1:
        return [with_mark(timelines[0], *marks.values())]
    return [with_mark(t, marks.get(t.video, "")) for t in timelines]


def check_overwrite(path: Path, existing: Sequence[Timeline] | None) -> None:
    """Refuse to overwrite anything but predictions with predictions.

    Args:
        path: Where predictions are to be written.
        existing: The timelines that lie there, or None where it is something else.

    Raises:
        DataError: if a person has made or corrected any.
    """
    if existing is not None and all(t.predicted for t in existing):
        return
    what = "something else than labels"
    if existing is not None:
        corrected = any(t.corrected for t in existing)
        what = "labels that were corrected" if corrected else "labels that no model made"
    raise DataError(
        f"{path} holds {what}, and isn't written over with predictions",
        expected="a new name, or predictions that nobody has changed",
        hint="write to another name or folder, or give --overwrite",
    )
