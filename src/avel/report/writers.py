"""Writers of timelines, one small class a format under its ending, and the readers of two of them.

A new module in this package with a class under ``@writers.register(".ending")`` is all that a
format needs. The forms are documented in ``docs/formats.md``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from avel import clock
from avel.errors import DataError, UsageError
from avel.files import write_whole
from avel.registry import Registry
from avel.types import BACKGROUND, Bools, Event, Grid, Json, Scores, Timeline

#: The largest file that is read back, in bytes: about a day of segments of 28 classes.
MAX_BYTES = 128 * 2**20
#: The most events or segments, and the longest name, that are read back.
MAX_ROWS, MAX_NAME = 1_000_000, 1000


class Writer(ABC):
    """One format a timeline can be written in."""

    @abstractmethod
    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the file, whole or not at all."""


writers: Registry[Writer] = Registry("report format", "avel.report")


def writer_for(path: str | Path) -> Writer:
    """The writer that a file's ending chooses.

    Raises:
        UsageError: if no writer has that ending.
    """
    ending = Path(path).suffix.lower()
    known = writers.names()
    if ending not in known:
        raise UsageError(
            f"no writer for the ending {ending!r} of {path}",
            wanted=f"one of {', '.join(known)}",
            do="give the output a name with one of these endings",
        )
    return writers.get(ending)()


@writers.register(".json")
class JsonWriter(Writer):
    """Everything but the attention maps: segments with all scores, events, the model's card."""

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the documented JSON form.

        Raises:
            DataError: if a score is no number: JSON has no way to say so.
        """
        try:
            text = json.dumps(timeline.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
        except ValueError as e:
            raise DataError(
                f"{timeline.video}: a score that is no finite number",
                wanted="probabilities",
                do="look at the model: its weights may hold NaN",
            ) from e
        write_whole(path, text.encode("utf-8", "surrogatepass") + b"\n")


@writers.register(".csv")
class CsvWriter(Writer):
    """The events alone: start, end, label, score; seconds from the start of the file."""

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write a header and a row an event, comma-separated, as RFC 4180 quotes it."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\r\n")
        rows.writerow(["start", "end", "label", "score"])
        for e in timeline.events:
            times = repr(float(e.start)), repr(float(e.end))
            rows.writerow([*times, e.label, repr(round(float(e.score), 6))])
        write_whole(path, out.getvalue())


def read(path: str | Path) -> Timeline:
    """Read a timeline back from the .json or .csv that a writer made.

    From .json everything but the attention maps returns; from .csv the events (the duration is
    then the last event's end, and the classes are those that occur).

    Raises:
        UsageError: if the ending is neither .json nor .csv.
        DataError: if the file is missing, too large, damaged, or holds impossible times or scores.
    """
    path = Path(path)
    readers = {".json": _read_json, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"can't read {path}: its ending is {path.suffix!r}",
            wanted=f"one of {', '.join(readers)}",
            do="give the .json or .csv that avel wrote",
        )
    try:
        return reader(_text(path), path)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, csv.Error) as e:
        raise _refused(path, f"{type(e).__name__}: {str(e)[:120]}") from e
    except DataError as e:
        raise _refused(path, e.got) from e


def _refused(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: no timeline ({why})",
        wanted="the form that docs/formats.md describes",
        do="write it again with `avel localize`",
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as f:
            data = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise _refused(path, e.strerror or str(e)) from e
    if len(data) > MAX_BYTES:
        raise _refused(path, f"more than {MAX_BYTES // 2**20} MB")
    return data.decode("utf-8-sig", "surrogatepass")


def _read_json(text: str, path: Path) -> Timeline:
    data = _object(json.loads(text, parse_constant=_no_constant))
    classes = tuple(_name(c) for c in _rows(data["classes"]))
    segments = _rows(data["segments"])
    duration = _seconds(data["duration"])
    scores = _scores(segments, classes, duration, data["step"]) if segments else None
    events = tuple(_event(_object(e), classes) for e in _rows(data["events"]))
    return Timeline(
        video=_name(data["video"]),
        events=events,
        duration=duration,
        classes=classes,
        scores=scores,
        model=_object(data.get("model", {})),
        notes=tuple(_name(n) for n in _rows(data.get("notes", []))),
    )


def _scores(rows: list[Any], classes: tuple[str, ...], duration: float, step: Any) -> Scores:
    grid = Grid(duration, _seconds(step))
    names = (*classes, BACKGROUND)
    if len(rows) != len(grid):
        raise ValueError(f"{len(rows)} segments where the duration has {len(grid)}")
    if len(set(names)) != len(names):
        raise ValueError("a class stands twice")
    ids = {name: i for i, name in enumerate(names)}
    values = np.zeros((len(rows), len(names)), dtype=np.float64)
    labels = np.zeros(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):
        _check_bounds(row, *grid.bounds(i))
        given = _object(row["scores"])
        if len(given) != len(names):
            raise ValueError(f"segment {i} has {len(given)} scores, wanted {len(names)}")
        values[i] = [_probability(given[name]) for name in names]
        labels[i] = ids[row["label"]]
    return Scores(
        values=values,
        classes=classes,
        grid=grid,
        labels=labels,
        audible=_flags(row["audible"] for row in rows),
        visible=_flags(row["visible"] for row in rows),
    )


def _check_bounds(row: Json, start: float, end: float) -> None:
    if not (
        math.isclose(_seconds(row["start"]), start, abs_tol=1e-3)
        and math.isclose(_seconds(row["end"]), end, abs_tol=1e-3)
    ):
        raise ValueError(f"segment at {row['start']}: wanted {start} to {end} s")


def _flags(values: Iterable[Any]) -> Bools | None:
    held = list(values)
    if all(v is None for v in held):
        return None
    if not all(isinstance(v, bool) for v in held):
        raise ValueError("audible and visible: wanted true or false on every segment")
    return np.array(held, dtype=bool)


def _read_csv(text: str, path: Path) -> Timeline:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not {"start", "end", "label"} <= set(rows.fieldnames or ()):
        raise ValueError(f"columns {rows.fieldnames}, wanted start,end,label,score")
    events = []
    for row in rows:
        score = row.get("score")
        given = {**row, "score": float(score) if score else 1.0}
        given["start"], given["end"] = _time(row["start"]), _time(row["end"])
        events.append(_event(given, None))
        if len(events) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
    return Timeline(
        video=path.stem,
        events=tuple(events),
        duration=max((e.end for e in events), default=0.0),
        classes=tuple(dict.fromkeys(e.label for e in events)),
    )


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return clock.parse_time(text)


def _event(row: Json, classes: tuple[str, ...] | None) -> Event:
    label = _name(row["label"])
    if classes is not None and label not in classes:
        raise ValueError(f"an event of the class {label[:40]!r}, which isn't among the classes")
    return Event(_seconds(row["start"]), _seconds(row["end"]), label, _probability(row["score"]))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:40]!r}: wanted an object")
    return value


def _rows(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise ValueError(f"wanted a list of at most {MAX_ROWS} rows")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError(f"{str(value)[:40]!r}: wanted a text of at most {MAX_NAME} characters")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r}: wanted a finite number")
    return float(value)


def _seconds(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} s: wanted no negative time")
    return number


def _probability(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number}: wanted a score from 0 to 1")
    return number
