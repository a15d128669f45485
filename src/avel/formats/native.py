"""avel's own JSON: everything but the attention maps."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Set
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from avel.errors import DataError
from avel.formats.base import (
    Format,
    SkippedRows,
    event_of,
    formats,
    lag_of,
    name_of,
    no_constant,
    object_of,
    probability_of,
    rows_of,
    seconds_of,
)
from avel.formats.marks import KEY, all_events, mark_of, with_mark
from avel.types import BACKGROUND, Bools, Event, EventModality, Floats, Grid, Json, Scores, Timeline

#: Parts of the text, of some bytes each, that are encoded at a time.
_PARTS = 10_000


@formats.register("json")
class NativeJson(Format):
    """Segments with all scores, events, the model's card, notes."""

    title = "avel JSON"
    ending = ".json"
    reads = (".json",)
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> bytes:
        """The documented JSON form.

        Raises:
            DataError: if a score is no number: JSON has no way to say so.
        """
        try:
            content = timeline.to_json()
            if timeline.predicted:
                content[KEY] = mark_of(timeline, all_events(timeline))
            elif timeline.corrected:
                content["corrected"] = True
            return _encoded(content)
        except ValueError as e:
            raise DataError(
                f"{timeline.video}: a score that is no finite number",
                expected="probabilities",
                hint="look at the model: its weights may hold NaN",
            ) from e

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """One timeline, with its scores where the file has any; events that can't be are left out.

        Segments that don't fit the duration and the step, or one another, refuse the whole file.
        """
        data = object_of(json.loads(text, parse_constant=no_constant))
        classes = tuple(name_of(c) for c in rows_of(data["classes"]))
        segments = rows_of(data["segments"])
        duration = seconds_of(data["duration"])
        scores = _scores(segments, classes, duration, data["step"]) if segments else None
        events: list[Event] = []
        known = set(classes)
        for number, event in enumerate(rows_of(data["events"]), start=1):
            with skipped.row(f"event {number}"):
                events.append(_event(object_of(event), known))
        timeline = Timeline(
            video=name_of(data["video"]),
            events=tuple(events),
            duration=duration,
            classes=classes,
            scores=scores,
            model=object_of(data.get("model", {})),
            notes=tuple(name_of(n) for n in rows_of(data.get("notes", []))),
            corrected=data.get("corrected") is True,
            audio_only=_single_modality_events(data, known, "audio", skipped),
            visual_only=_single_modality_events(data, known, "visual", skipped),
            player_start=seconds_of(data.get("player_start", 0.0)),
        )
        return [with_mark(timeline, name_of(data.get(KEY, "")))]

    def recognizes(self, text: str) -> bool:
        """Recognized by its list of segments."""
        return text.lstrip()[:1] == "{" and '"segments"' in text


def _encoded(content: Json) -> bytes:
    """The JSON text and a line end, without every number as a string in memory at once."""
    parts = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=1).iterencode(content)
    out = io.BytesIO()
    while text := "".join(islice(parts, _PARTS)):
        out.write(text.encode("utf-8", "surrogatepass"))
    out.write(b"\n")
    return out.getvalue()


def _event(row: Json, classes: Set[str]) -> Event:
    label = name_of(row["label"])
    if label not in classes:
        raise ValueError(f"an event of the class {label[:40]!r}, which isn't among the classes")
    details = {name: row.get(name) for name in ("audio_weight", "lag")}
    modality = row.get("modality", "both")
    return event_of(row["start"], row["end"], label, row["score"], modality, **details)


def _single_modality_events(
    data: Json, classes: Set[str], modality: EventModality, skipped: SkippedRows
) -> tuple[Event, ...]:
    """The events of ``audio_only`` or ``visual_only``, whether or not each says so again."""
    name = f"{modality}_only"
    events: list[Event] = []
    for number, row in enumerate(rows_of(data.get(name, [])), start=1):
        with skipped.row(f"{name} {number}"):
            event = _event({"modality": modality, **object_of(row)}, classes)
            if event.modality != modality:
                raise ValueError(f"an event of modality {event.modality!r} in {name}")
            events.append(event)
    return tuple(events)


def _scores(rows: list[Any], classes: tuple[str, ...], duration: float, step: Any) -> Scores:
    grid = Grid(duration, seconds_of(step))
    names = (*classes, BACKGROUND)
    if len(rows) != len(grid):
        raise ValueError(f"{len(rows)} segments where the duration has {len(grid)}")
    if len(set(names)) != len(names):
        raise ValueError("a class stands twice")
    ids = {name: i for i, name in enumerate(names)}
    values = np.zeros((len(rows), len(names)), dtype=np.float64)
    labels = np.zeros(len(rows), dtype=np.int64)
    per_class = {
        name: _class_values(rows, classes, name, value_of)
        for name, value_of in (
            ("audio_scores", probability_of), ("visual_scores", probability_of), ("lag", lag_of),
        )
    }  # fmt: skip
    for i, row in enumerate(rows):
        _check_bounds(row, *grid.bounds(i))
        by_class = object_of(row["scores"])
        if len(by_class) != len(names):
            raise ValueError(f"segment {i} has {len(by_class)} scores, expected {len(names)}")
        values[i] = [probability_of(by_class[name]) for name in names]
        labels[i] = ids[row["label"]]
    return Scores(
        values=values,
        classes=classes,
        grid=grid,
        labels=labels,
        audible=_flags(row["audible"] for row in rows),
        visible=_flags(row["visible"] for row in rows),
        audio_weight=_audio_weight(rows),
        **per_class,
    )


def _audio_weight(rows: list[Any]) -> Floats | None:
    """(T,) of ``audio_weight``, NaN where it is null."""
    if not any("audio_weight" in row for row in rows):
        return None
    values = (row["audio_weight"] for row in rows)
    return np.array([np.nan if v is None else probability_of(v) for v in values])


def _class_values(
    rows: list[Any], classes: tuple[str, ...], name: str, value_of: Callable[[Any], float]
) -> Floats | None:
    """(T, C) of ``audio_scores``, ``visual_scores`` or ``lag``; 0 where a class is left out."""
    if not any(name in row for row in rows):
        return None
    ids = {c: i for i, c in enumerate(classes)}
    values = np.zeros((len(rows), len(classes)), dtype=np.float64)
    for i, row in enumerate(rows):
        for label, value in object_of(row[name]).items():
            values[i, ids[label]] = np.nan if value is None else value_of(value)
    return values


def _check_bounds(row: Json, start: float, end: float) -> None:
    if not (
        math.isclose(seconds_of(row["start"]), start, abs_tol=1e-3)
        and math.isclose(seconds_of(row["end"]), end, abs_tol=1e-3)
    ):
        raise ValueError(f"segment at {row['start']}: expected {start} to {end} s")


def _flags(values: Iterable[Any]) -> Bools | None:
    flags = list(values)
    if all(v is None for v in flags):
        return None
    if not all(isinstance(v, bool) for v in flags):
        raise ValueError("audible and visible: expected true or false on every segment")
    return np.array(flags, dtype=bool)
