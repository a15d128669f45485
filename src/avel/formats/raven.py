"""Raven's selection tables: a header and a selection a row, tab-separated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avel.formats.base import (
    MAX_ROWS,
    Format,
    decimal_times,
    event_of,
    formats,
    marked_label,
    media_name,
    timeline_of,
    unmarked,
)
from avel.formats.text import escape, neutral, restored, unescape
from avel.types import Event, Timeline

_START, _END, _OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
_HEADER = ("Selection", "View", "Channel", _START, _END, "Low Freq (Hz)", "High Freq (Hz)",
           "Begin File", "Annotation", "Score")  # fmt: skip
#: The band of a selection in Hz: what a 16 kHz sound holds, since events have no band.
_LOW, _HIGH = "0.0", "8000.0"
#: Columns that hold the label, the first that is there taken; and those that hold a score.
_LABELS = ("annotation", "label", "common name", "species", "species code", "tags", "type")
_SCORES = ("score", "confidence")


@formats.register("raven")
class Raven(Format):
    """What Raven Lite and Pro open as a selection table."""

    ending = ".selections.txt"
    reads = (".txt", ".tsv")

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A selection an event, over the whole band, with the columns Annotation and Score."""
        file = neutral(escape(media_name(timeline.video, timeline.video)))
        lines = ["\t".join(_HEADER)]
        for number, e in enumerate(timeline, start=1):
            label = neutral(marked_label(e))
            cells = (str(number), "Spectrogram 1", "1", *decimal_times(e), _LOW, _HIGH, file, label)
            lines.append("\t".join((*cells, f"{round(float(e.score), 6):g}")))
        return "\n".join(lines) + "\n"

    def load(self, text: str, path: Path) -> list[Timeline]:
        """The selections; one that stands there for several views is taken once."""
        lines = text.replace("\r\n", "\n").split("\n")
        if len(lines) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} lines")
        header = [c.strip().lower() for c in lines[0].split("\t")]
        label = next((c for c in _LABELS if c in header), "")
        if not label or _START.lower() not in header or _END.lower() not in header:
            wanted = f"{_START}, {_END} and one of {', '.join(_LABELS)}"
            raise ValueError(f"columns {header}, wanted {wanted}")
        rows = [
            (number, dict(zip(header, line.split("\t"), strict=False)))
            for number, line in enumerate(lines[1:], start=2)
            if line.strip()
        ]
        held: dict[str, dict[tuple[str, Event], Event]] = {}
        several = len({_file(row, path) for _, row in rows}) > 1
        for number, row in rows:
            event = _event(row, label, number, several=several)
            seen = held.setdefault(_file(row, path), {})
            seen.setdefault((row.get("selection") or str(number), event), event)
        return [
            timeline_of(file, sorted(found.values(), key=lambda e: (e.start, e.end)))
            for file, found in (held or {_stem(path): {}}).items()
        ]

    def knows(self, text: str) -> bool:
        """Told by its header."""
        return _START.lower() in text.split("\n", 1)[0].lower()


def _stem(path: Path) -> str:
    return path.name.split(".Table.")[0].removesuffix(".txt").removesuffix(".selections")


def _file(row: Mapping[str, str], path: Path) -> str:
    named = row.get("begin file") or row.get("begin path") or ""
    return media_name(unescape(restored(named.strip())), _stem(path))


def _event(row: Mapping[str, str], label: str, number: int, *, several: bool) -> Event:
    """The event of a row; in a sequence of files its begin is ``File Offset (s)``."""
    score = next((row[c] for c in _SCORES if row.get(c)), "1")
    try:
        start, end = float(row[_START.lower()]), float(row[_END.lower()])
        if several:
            offset = float(row[_OFFSET.lower()])
            start, end = offset, round(offset + end - start, 6)
        name, modality = unmarked(restored(row[label].strip()))
        return event_of(start, end, name, float(score), modality)
    except KeyError as e:
        raise ValueError(f"line {number}: no column {e}") from e
    except ValueError as e:
        raise ValueError(f"line {number}: {e}") from e
