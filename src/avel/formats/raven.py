"""Raven's selection tables: a header and a selection a row, tab-separated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    decimal_times,
    event_of,
    formats,
    label_with_modality,
    lines_of,
    media_name,
    names_apart,
    split_label,
    timeline_of,
)
from avel.formats.text import escape, escape_formula, unescape, unescape_formula
from avel.types import Event, Timeline

_START, _END, _OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
_HEADER = ("Selection", "View", "Channel", _START, _END, "Low Freq (Hz)", "High Freq (Hz)",
           "Begin File", "Annotation", "Score")  # fmt: skip
#: The band of a selection in Hz: what a 16 kHz sound holds, since events have no band.
_LOW, _HIGH = "0.0", "8000.0"
#: Columns that hold the label, the first that is there taken; those that hold a score; and those
#: that name the file, the one with its folders first.
_LABELS = ("annotation", "label", "common name", "species", "species code", "tags", "type")
_SCORES = ("score", "confidence")
_FILES = ("begin path", "begin file")


@formats.register("raven")
class Raven(Format):
    """What Raven Lite and Pro open as a selection table."""

    title = "Raven selection table"
    ending = ".selections.txt"
    reads = (".txt", ".tsv")

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A selection an event, over the whole band, with the columns Annotation and Score."""
        file = escape_formula(escape(media_name(timeline.video, timeline.video)))
        lines = ["\t".join(_HEADER)]
        for number, e in enumerate(timeline, start=1):
            label = escape_formula(label_with_modality(e))
            cells = (str(number), "Spectrogram 1", "1", *decimal_times(e), _LOW, _HIGH, file, label)
            lines.append("\t".join((*cells, f"{round(float(e.score), 6):g}")))
        return "\n".join(lines) + "\n"

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The selections; one that stands there for several views is taken once."""
        lines = lines_of(text)
        check_count(len(lines), "lines")
        header = [c.strip().lower() for c in lines[0].split("\t")]
        label = next((c for c in _LABELS if c in header), "")
        if not label or _START.lower() not in header or _END.lower() not in header:
            expected = f"{_START}, {_END} and one of {', '.join(_LABELS)}"
            raise ValueError(f"columns {header}, expected {expected}")
        rows = [
            (number, dict(zip(header, line.split("\t"), strict=False)))
            for number, line in enumerate(lines[1:], start=2)
            if line.strip()
        ]
        by_file: dict[str, dict[tuple[str, Event], Event]] = {}
        names = names_apart([_file(row) for _, row in rows], _stem(path))
        several = len(set(names.values())) > 1
        for number, row in rows:
            with skipped.row(number):
                event = _event(row, label, several=several)
                selections = by_file.setdefault(names[_file(row)], {})
                selections.setdefault((row.get("selection") or str(number), event), event)
        return [
            timeline_of(file, events.values())
            for file, events in (by_file or {_stem(path): {}}).items()
        ]

    def recognizes(self, text: str) -> bool:
        """Recognized by its header."""
        return _START.lower() in text.split("\n", 1)[0].lower()


def _stem(path: Path) -> str:
    return path.name.split(".Table.")[0].removesuffix(".txt").removesuffix(".selections")


def _file(row: Mapping[str, str]) -> str:
    named = next((row[c].strip() for c in _FILES if row.get(c, "").strip()), "")
    return unescape(unescape_formula(named))


def _event(row: Mapping[str, str], label: str, *, several: bool) -> Event:
    """The event of a row, by its file's own clock."""
    score = next((row[c] for c in _SCORES if row.get(c, "").strip()), "1")
    start, end = (clock.parse_time(row[c.lower()]) for c in (_START, _END))
    file_clock = _clock(row, start, several=several)
    name, modality = split_label(unescape_formula(row[label].strip()))
    times = file_clock.to_file(start), file_clock.to_file(end)
    return event_of(*times, name, float(score.replace(",", ".")), modality)


def _clock(row: Mapping[str, str], start: float, *, several: bool) -> clock.Clock:
    """The clock of a row's times: it runs over a whole sequence of files, where one was open.

    Raven then says in ``File Offset (s)`` where in its own file a selection begins.
    """
    offset = row.get(_OFFSET.lower(), "").strip()
    if offset and _file(row):
        return clock.Clock(start - clock.parse_time(offset))
    if several:
        raise ValueError(f"no {_OFFSET!r}, without which the time in {_file(row)!r} isn't known")
    return clock.Clock()
