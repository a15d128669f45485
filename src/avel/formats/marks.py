"""Whose words a label file holds: what a model found bears a mark, until somebody corrects it.

The mark is a digest of the events. While it fits them, they are a model's predictions; once a
person has changed any, in whatever tool, it doesn't, and the labels are that person's. It stands
in the file where the format has room for it (``.json``, ``.vtt``, ``.eaf``, ``.otio``; Label Studio
tells predictions from annotations itself), and beside it, in the hidden folder ``.avel``, where the
format has none.
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

#: What the mark is called in a file.
KEY = "avel:predictions"
#: What a note about the video is called there.
NOTE = "avel:note"
_FOLDER = ".avel"
#: Larger ones beside a file aren't read.
_LARGEST = 2**24


def digest(events: Iterable[Event]) -> str:
    """Of labels, modalities and times in milliseconds, in any order and to any format's digits."""
    rows = sorted((*clock.span_ticks(e.start, e.end), e.label, e.modality) for e in events)
    text = json.dumps(rows, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def all_events(timeline: Timeline) -> list[Event]:
    """The events of all modalities, wherever they stand."""
    return [e for modality in MODALITIES for e in timeline.lane(modality)]


def mark_of(timeline: Timeline, events: Iterable[Event]) -> str:
    """The mark of a timeline: the digest of the events that are written, and the model's name."""
    name = timeline.model.get("model", timeline.model.get("name", ""))
    return f"{digest(events)} {' '.join(str(name).split())[:100]}".strip()


def with_mark(timeline: Timeline, mark: str) -> Timeline:
    """The timeline that was read beside a mark: a model's, and corrected where it doesn't fit."""
    events_digest, _, name = mark.strip().partition(" ")
    if not events_digest:
        return timeline
    model = timeline.model
    if not model and timeline.scores is None:
        model = {"model": name or "avel"}
    return replace(timeline, model=model, corrected=events_digest != digest(all_events(timeline)))


def _mark_path(path: Path) -> Path:
    name = hashlib.sha256(path.name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return path.parent / _FOLDER / f"predictions-{name}.json"


def write_beside(path: Path, marks: Mapping[str, str]) -> None:
    """Mark a file's predictions beside it; where it holds none, what stood there goes.

    Args:
        path: The file of labels.
        marks: By what it calls the videos, of those that are predictions.
    """
    mark_file = _mark_path(path)
    if marks:
        write_whole(
            mark_file, json.dumps({"file": path.name, "marks": dict(marks)}, indent=1) + "\n"
        )
    elif file_exists(mark_file):
        mark_file.unlink()


def read_beside(path: Path, timelines: Sequence[Timeline]) -> list[Timeline]:
    """The timelines of a file with the marks that stand beside it."""
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
    """Refuse to write predictions over what isn't a model's.

    Args:
        path: Where predictions are to be written.
        held: The timelines that lie there, or None where it is something else.

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
