"""Audacity's label tracks: start, end and text of a label, tab-separated."""

from __future__ import annotations

import re
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
    split_label,
    stem_of,
    timeline_of,
)
from avel.types import Event, Timeline

_LABEL = re.compile(r"[\d.,:]+\t[\d.,:]+\t")


@formats.register("audacity")
class Audacity(Format):
    """What Audacity's File > Import > Labels reads and File > Export Other > Labels writes."""

    title = "Audacity"
    ending = ".txt"
    reads = (".txt",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A line an event, six decimals, as Audacity itself writes them."""
        lines = ("\t".join((*decimal_times(e), label_with_modality(e))) for e in timeline)
        return "".join(f"{line}\n" for line in lines)

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        r"""The labels; lines that begin with ``\`` hold frequencies and are passed over."""
        lines = lines_of(text)
        check_count(len(lines), "lines")
        events = []
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith("\\\t"):
                with skipped.row(number):
                    events.append(_event(line))
        return [timeline_of(stem_of(path), events)]

    def recognizes(self, text: str) -> bool:
        """Recognized by two numbers and a tab in its first line."""
        return bool(_LABEL.match(text.lstrip("\r\n")))


def _event(line: str) -> Event:
    cells = line.split("\t")
    if len(cells) == 2:
        raise ValueError(f"{line.strip()[:40]!r} is a start and an end without a label")
    if len(cells) != 3:
        raise ValueError(f"{len(cells)} columns, expected start, end and label")
    start, end = map(clock.parse_time, cells[:2])
    label, modality = split_label(cells[2].strip())
    return event_of(start, end, label, modality=modality)
