"""Tables of events, a row each: CSV, and DCASE's tab-separated form."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avel.formats.base import (
    MAX_ROWS,
    Format,
    event_of,
    formats,
    marked_label,
    media_name,
    time_of,
    timeline_of,
    unmarked,
    write_encoded,
)
from avel.formats.text import escape, neutral, restored, unescape
from avel.types import Event, Timeline

#: Column names that are understood, by what they hold.
COLUMNS = {
    "file": ("file", "filename"),
    "start": ("start", "onset"),
    "end": ("end", "offset"),
    "label": ("label", "event_label"),
    "score": ("score",),
    "modality": ("modality",),
}


@formats.register("csv")
class Csv(Format):
    """Start, end, label, score; in front the file, where one table holds several.

    A column ``modality`` follows where an event isn't audio-visual.
    """

    ending = ".csv"
    reads = (".csv",)
    many = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A header and a row an event, comma-separated, as RFC 4180 quotes it."""
        header = _header([timeline])
        rows = [_cells(e)[: len(header)] for e in timeline.events]
        return _table(header, rows, ",", "\r\n")

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """The same with the column ``file``; a video without events is a row without times."""
        names, header = shown_names(timelines), _header(timelines)
        rows = [
            [neutral(name), *cells[: len(header)]]
            for name, t in zip(names, timelines, strict=True)
            for cells in ([_cells(e) for e in t.events] or [[""] * len(header)])
        ]
        write_encoded(path, _table(["file", *header], rows, ",", "\r\n"))

    def load(self, text: str, path: Path) -> list[Timeline]:
        """A timeline a file named; commas, semicolons or tabs, other columns left out."""
        return _load(text, path)


@formats.register("dcase")
class Dcase(Format):
    """DCASE's strong labels: filename, onset, offset, event_label, tab-separated."""

    ending = ".tsv"
    reads = (".tsv", ".txt")
    many = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """One video's events."""
        return self._text([timeline])

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """Any number of videos' events; one without any is a row without times."""
        write_encoded(path, self._text(timelines))

    def _text(self, timelines: Sequence[Timeline]) -> str:
        rows = [
            [neutral(escape(name)), *cells[:3]]
            for name, t in zip(shown_names(timelines), timelines, strict=True)
            for cells in ([_cells(e, coded=True) for e in t.events] or [["", "", ""]])
        ]
        return _table(["filename", "onset", "offset", "event_label"], rows, "\t", "\n")

    def load(self, text: str, path: Path) -> list[Timeline]:
        """A timeline a file named."""
        return _load(text, path, coded=True)

    def knows(self, text: str) -> bool:
        """Told by its header."""
        first = text.split("\n", 1)[0].lower()
        return "\t" in first and "onset" in first and "event_label" in first


def shown_names(timelines: Sequence[Timeline]) -> list[str]:
    """What the videos are called in a table: bare names, or as given where two would be alike."""
    names = [media_name(t.video, t.video) for t in timelines]
    return names if len(set(names)) == len(names) else [t.video for t in timelines]


def _header(timelines: Sequence[Timeline]) -> list[str]:
    """The columns of events; ``modality`` only where it tells something."""
    apart = any(e.modality != "both" for t in timelines for e in t.events)
    return ["start", "end", "label", "score", *["modality"] * apart]


def _cells(event: Event, *, coded: bool = False) -> list[str]:
    """Start, end, label, score and modality; ``coded`` keeps a label, marked, on one line."""
    times = repr(float(event.start)), repr(float(event.end))
    label = marked_label(event) if coded else event.label
    return [*times, neutral(label), repr(round(float(event.score), 6)), event.modality]


def label_in(cell: str, *, coded: bool = False) -> str:
    """The label that a table's cell holds."""
    return unescape(restored(cell)) if coded else restored(cell)


def _marked_in(row: dict[str, str], *, coded: bool) -> tuple[str, str]:
    """The label and the modality of a row."""
    if coded:
        return unmarked(restored(row["label"]))
    return restored(row["label"]), row.get("modality", "").strip().lower() or "both"


def _table(header: list[str], rows: Sequence[list[str]], delimiter: str, end: str) -> str:
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator=end)
    table.writerow(header)
    table.writerows(rows)
    return out.getvalue()


def _load(text: str, path: Path, *, coded: bool = False) -> list[Timeline]:
    header, rows = read_table(text)
    if "label" not in header or not {"start", "end"} <= set(header):
        raise ValueError(f"columns {list(header)}, wanted start,end,label or file,start,end,label")
    held: dict[str, list[Event]] = {}
    for number, row in rows:
        file = label_in(row.get("file", ""), coded=coded) if "file" in header else path.stem
        if not file:
            raise ValueError(f"line {number}: no file")
        events = held.setdefault(file, [])
        if row["start"] or row["end"] or row["label"]:
            events.append(_event(row, number, coded=coded))
    if not held and "file" not in header:
        held[path.stem] = []
    if not held:
        raise ValueError("no rows")
    return [timeline_of(file, events) for file, events in held.items()]


def _event(row: dict[str, str], number: int, *, coded: bool) -> Event:
    try:
        score = float(row["score"]) if row.get("score") else 1.0
        times = time_of(row["start"]), time_of(row["end"])
        label, modality = _marked_in(row, coded=coded)
        return event_of(*times, label, score, modality)
    except ValueError as e:
        raise ValueError(f"line {number}: {e}") from e


def read_table(text: str) -> tuple[tuple[str, ...], Iterator[tuple[int, dict[str, str]]]]:
    """The columns of a table under our names, and its rows with their line numbers.

    The first line names the columns and tells what separates them: commas, semicolons or tabs.
    """
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    named = {alias: ours for ours, aliases in COLUMNS.items() for alias in aliases}
    header = tuple(named.get(c.strip().lower(), c.strip().lower()) for c in next(rows, []))
    if len(set(header)) != len(header):
        raise ValueError(f"columns {list(header)}: one stands twice")
    return header, _rows(rows, header)


def _rows(rows: Any, header: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    for count, cells in enumerate(rows):
        if count >= MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"line {rows.line_num}: {len(cells)} columns, not {len(header)}")
        yield rows.line_num, dict(zip(header, cells, strict=True))
