"""Tables of events, a row each: CSV, and DCASE's tab-separated form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    event_of,
    formats,
    label_with_modality,
    split_label,
    stem_of,
    timeline_of,
    video_names,
)
from avel.formats.text import escape, escape_formula, unescape, unescape_formula
from avel.types import Event, Timeline

#: Column names that are understood, by what they hold.
COLUMNS = {
    "file": ("file", "filename"),
    "start": ("start", "onset", "start (s)"),
    "end": ("end", "offset", "end (s)"),
    "label": ("label", "event_label", "common name"),
    "score": ("score", "confidence"),
    "scene": ("scene", "scene_label"),
    "modality": ("modality",),
    "audio_weight": ("audio_weight",),
    "lag": ("lag",),
}
#: The columns of every event.
_EVENT = ("start", "end", "label", "score")
#: A row of a table as it was split: its line and cells, or why it couldn't be split.
Row = tuple[int, list[str] | ValueError]
#: In a table without a header, so many rows are looked at for where the times stand.
_LOOKED_AT = 50
_LINE_END = re.compile(r"\r\n|\n|\r")


class LocatedRow(NamedTuple):
    """A row with its place in the text: ``text[start:stop]``, the end of the line included."""

    line: int
    start: int
    stop: int
    cells: list[str] | ValueError


@dataclass(frozen=True)
class TableLayout:
    """How a table is written.

    Args:
        delimiter: What separates its cells.
        columns: The columns under our names.
        named: Whether a line names them; otherwise the times tell which column is which.
    """

    delimiter: str
    columns: tuple[str, ...]
    named: bool


@formats.register("csv")
class Csv(Format):
    """Start, end, label, score; in front the file, where one table holds several.

    A column ``modality`` follows where an event isn't audio-visual, ``audio_weight`` and ``lag``
    where an event has them.
    """

    title = "Table (CSV)"
    ending = ".csv"
    reads = (".csv",)
    many = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A header and a row an event, comma-separated, as RFC 4180 quotes it."""
        header = _header([timeline])
        rows = [event_cells(e, header) for e in timeline.events]
        return _table(header, rows, ",", "\r\n")

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """The same with the column ``file``; a video without events is a row without times."""
        names, header = video_names(timelines), _header(timelines)
        rows = [
            [escape_formula(name), *cells]
            for name, t in zip(names, timelines, strict=True)
            for cells in ([event_cells(e, header) for e in t.events] or [[""] * len(header)])
        ]
        self.put(path, _table(["file", *header], rows, ",", "\r\n"), timelines)

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """A timeline a file named; commas, semicolons or tabs, other columns passed over."""
        return _load(text, path, skipped)


@formats.register("dcase")
class Dcase(Format):
    """DCASE's strong labels: filename, onset, offset, event_label, tab-separated."""

    title = "DCASE, sed_eval"
    ending = ".tsv"
    reads = (".tsv", ".txt")
    many = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """One video's events."""
        return self._text([timeline])

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """Any number of videos' events; one without any is a row without times."""
        self.put(path, self._text(timelines), timelines)

    def _text(self, timelines: Sequence[Timeline]) -> str:
        rows = [
            [escape_formula(escape(name)), *cells]
            for name, t in zip(video_names(timelines), timelines, strict=True)
            for cells in ([event_cells(e, _EVENT[:3], coded=True) for e in t.events] or [[""] * 3])
        ]
        return _table(["filename", "onset", "offset", "event_label"], rows, "\t", "\n")

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """A timeline a file named; with a header or without, with a scene's column or without."""
        return _load(text, path, skipped, coded=True)

    def recognizes(self, text: str) -> bool:
        """Recognized by its header, or by a file's name before two times."""
        first = text.split("\n", 1)[0].lower()
        if "\t" in first and "onset" in first and "event_label" in first:
            return True
        rows = [cells for _, cells in _first_rows(text, "\t") if isinstance(cells, list)]
        return "file" in (_guess_columns(rows) or ())


def _header(timelines: Sequence[Timeline]) -> list[str]:
    """The columns of events; those behind the score only where they tell something."""
    events = [e for t in timelines for e in t.events]
    more = {
        "modality": any(e.modality != "both" for e in events),
        "audio_weight": any(e.audio_weight is not None for e in events),
        "lag": any(e.lag is not None for e in events),
    }
    return [*_EVENT, *(name for name, known in more.items() if known)]


def event_cells(event: Event, columns: Sequence[str], *, coded: bool = False) -> list[str]:
    """The cells of some columns; ``coded`` keeps a label, marked with the modality, on one line."""
    label = label_with_modality(event) if coded else event.label
    cells = {
        "start": clock.time_text(event.start),
        "end": clock.time_text(event.end),
        "label": escape_formula(label),
        "score": _number_cell(event.score),
        "modality": event.modality,
        "audio_weight": _number_cell(event.audio_weight),
        "lag": _number_cell(event.lag),
    }
    return [cells[name] for name in columns]


def _number_cell(value: float | None) -> str:
    return "" if value is None else repr(round(float(value), 6))


def label_in(cell: str, *, coded: bool = False) -> str:
    """The label that a table's cell holds."""
    return unescape(unescape_formula(cell)) if coded else unescape_formula(cell)


def label_and_modality(row: Mapping[str, str], *, coded: bool) -> tuple[str, str]:
    """The label and the modality of a row."""
    if coded:
        return split_label(unescape_formula(row["label"]))
    return unescape_formula(row["label"]), row.get("modality", "").lower() or "both"


def _table(header: list[str], rows: Sequence[list[str]], delimiter: str, end: str) -> str:
    lines = (delimiter.join(quoted_cell(c, delimiter) for c in row) for row in (header, *rows))
    return "".join(f"{line}{end}" for line in lines)


def quoted_cell(cell: str, delimiter: str) -> str:
    """A cell in quotes where it needs them, so that white space around it is kept too."""
    plain = cell == cell.strip() and not any(c in cell for c in f'{delimiter}"\r\n')
    return cell if plain else '"' + cell.replace('"', '""') + '"'


def _load(text: str, path: Path, skipped: SkippedRows, *, coded: bool = False) -> list[Timeline]:
    header, rows = read_table(text)
    if "label" not in header or not {"start", "end"} <= set(header):
        raise ValueError(
            f"columns {list(header)}, expected start,end,label or file,start,end,label"
        )
    by_file: dict[str, list[Event]] = {}
    stem = stem_of(path)
    for number, cells in rows:
        with skipped.row(number):
            row = row_of(cells, header)
            file = label_in(row.get("file", ""), coded=coded) if "file" in header else stem
            if not file:
                raise ValueError("no file")
            has_event = row["start"] or row["end"] or row["label"]
            event = _event(row, coded=coded) if has_event else None
            by_file.setdefault(file, []).extend([event] if event else [])
    if not by_file:
        by_file[stem] = []
    return [timeline_of(file, events, keep_order=True) for file, events in by_file.items()]


def _event(row: dict[str, str], *, coded: bool) -> Event:
    numbers = {
        name: float(row[name].replace(",", "."))
        for name in ("score", "audio_weight", "lag")
        if row.get(name)
    }
    times = clock.parse_time(row["start"]), clock.parse_time(row["end"])
    label, modality = label_and_modality(row, coded=coded)
    return event_of(*times, label, modality=modality, **numbers)


def read_table(text: str) -> tuple[tuple[str, ...], Iterator[Row]]:
    """The columns of a table under our names, and its rows with their line numbers.

    Raises:
        ValueError: as :func:`table_layout`, or if there are more than ``MAX_ROWS`` rows.
    """
    layout = table_layout(text)
    return layout.columns, ((r.line, r.cells) for r in located_rows(text, layout))


def table_layout(text: str) -> TableLayout:
    """How a table is written.

    The first line names the columns and tells what separates them: tabs, semicolons or commas. In
    a table without such a line the times tell which column is which.

    Raises:
        ValueError: if a column stands twice.
    """
    delimiter = max("\t;,", key=_LINE_END.split(text, maxsplit=1)[0].count)
    if text[:4].lower() == "sep=":  # a line for spreadsheets, which says it too
        delimiter = text[4:5]
    first = [cells for _, cells in _first_rows(text, delimiter) if isinstance(cells, list)]
    named = {alias: ours for ours, aliases in COLUMNS.items() for alias in aliases}
    header = tuple(named.get(c.lower(), c.lower()) for c in (first or [[]])[0])
    guessed = None if {"start", "end"} & set(header) else _guess_columns(first)
    if guessed is not None:
        return TableLayout(delimiter, guessed, named=False)
    if len(set(header)) != len(header):
        raise ValueError(f"columns {list(header)}: one stands twice")
    return TableLayout(delimiter, header, named=True)


def located_rows(text: str, layout: TableLayout) -> Iterator[LocatedRow]:
    """The rows of a table below its header, with their places in the text.

    Raises:
        ValueError: if there are more than ``MAX_ROWS`` rows.
    """
    rows = _rows(text, layout.delimiter)
    if layout.named:
        next(rows, None)
    return rows


def _first_rows(text: str, delimiter: str) -> list[Row]:
    """The first few rows, to look at."""
    rows = zip(_rows(text[:65536], delimiter), range(_LOOKED_AT), strict=False)
    return [(row.line, row.cells) for row, _ in rows]


def _guess_columns(rows: Sequence[list[str]]) -> tuple[str, ...] | None:
    """The columns of a table without a header: the label behind two times, the file before them."""
    for cells in rows:
        for i in range(min(len(cells) - 2, 3)):
            if _is_time(cells[i]) and _is_time(cells[i + 1]) and not _is_time(cells[i + 2]):
                before = ("file", "scene")[:i]
                behind = ("score",) if i == 0 else ("identifier",)
                names = (*before, "start", "end", "label", *behind)
                more = tuple(f"column {k}" for k in range(len(names) + 1, len(cells) + 1))
                return (*names[: len(cells)], *more)
    return None


def _is_time(cell: str) -> bool:
    try:
        clock.parse_time(cell)
    except ValueError:
        return False
    return True


def row_of(cells: list[str] | ValueError, header: Sequence[str]) -> dict[str, str]:
    """A row's cells by the columns' names; what isn't asked for may be missing at the end.

    Raises:
        ValueError: if cells are missing or left over.
    """
    if isinstance(cells, ValueError):
        raise cells
    lacking = set(header[len(cells) :]) & {"file", "start", "end", "label"}
    if lacking or any(cells[len(header) :]):
        raise ValueError(f"{len(cells)} columns, the first line has {len(header)}")
    return dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False))


def _rows(text: str, delimiter: str) -> Iterator[LocatedRow]:
    """The rows that hold anything; white space around a cell is left out, but for quoted ones."""
    at, line, count = 0, 1, 0
    if text[:4].lower() == "sep=" and _LINE_END.match(text, 5):
        at, line = _next_line(text, 0), 2
    while at < len(text):
        behind = _next_line(text, at)
        whole = text[at:behind]
        cells: list[str] | ValueError = [c.strip() for c in whole.split(delimiter)]
        if '"' in whole:
            try:
                cells, behind = _quoted_row(text, at, delimiter)
            except ValueError as e:
                cells = e
        if isinstance(cells, ValueError) or any(cells):
            count += 1
            check_count(count, "rows")
            yield LocatedRow(line, at, behind, cells)
        line += len(_LINE_END.findall(text, at, behind)) if '"' in whole else 1
        at = behind


def _next_line(text: str, at: int) -> int:
    """Where the next line begins."""
    end = text.find("\n", at) + 1 or len(text)
    alone = text.find("\r", at, end - 1)  # as old systems end a line
    return alone + 1 if alone >= 0 and text[alone + 1] != "\n" else end


def _quoted_row(text: str, at: int, delimiter: str) -> tuple[list[str], int]:
    """The cells of a row with quotes, which may go over several lines, and where the next begins.

    Raises:
        ValueError: for a quote that isn't closed, or text behind one that is.
    """
    cells: list[str] = []
    plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    space = re.compile(rf"(?:(?!{re.escape(delimiter)})[^\S\r\n])*")
    while True:
        inner = space.match(text, at).end()  # type: ignore[union-attr]
        if text[inner : inner + 1] == '"':
            cell, at = _quoted_cell(text, inner + 1)
            at = space.match(text, at).end()  # type: ignore[union-attr]
        else:
            end = plain.match(text, at).end()  # type: ignore[union-attr]
            cell, at = text[at:end].strip(), end
        cells.append(cell)
        if text[at : at + 1] == delimiter:
            at += 1
            continue
        stop = _LINE_END.match(text, at)
        if not stop and at < len(text):
            raise ValueError(f"text behind a quote: {text[at : at + 20]!r}")
        return cells, stop.end() if stop else at


def _quoted_cell(text: str, at: int) -> tuple[str, int]:
    """What stands in quotes that are open at a place, and the place behind them."""
    end = at
    while True:
        end = text.find('"', end)
        if end < 0:
            raise ValueError("a quote that is never closed")
        if text[end + 1 : end + 2] != '"':
            return text[at:end].replace('""', '"'), end + 1
        end += 2
