"""Audacity's label tracks: start, end and text of a label, tab-separated."""

from __future__ import annotations

import re
from pathlib import Path

from avel.formats.base import (
    MAX_ROWS,
    Format,
    decimal_times,
    event_of,
    formats,
    marked_label,
    timeline_of,
    unmarked,
)
from avel.types import Event, Timeline

_LABEL = re.compile(r"[\d.,]+\t[\d.,]+\t")


@formats.register("audacity")
class Audacity(Format):
    """What Audacity's File > Import > Labels reads and File > Export Other > Labels writes."""

    ending = ".txt"
    reads = (".txt",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A line an event, six decimals, as Audacity itself writes them."""
        lines = ("\t".join((*decimal_times(e), marked_label(e))) for e in timeline)
        return "".join(f"{line}\n" for line in lines)

    def load(self, text: str, path: Path) -> list[Timeline]:
        r"""The labels; lines that begin with ``\`` hold frequencies and are left out."""
        lines = text.replace("\r\n", "\n").split("\n")
        if len(lines) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} lines")
        events = [
            _event(line, number)
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.startswith("\\\t")
        ]
        return [timeline_of(path.stem, sorted(events, key=lambda e: (e.start, e.end)))]

    def knows(self, text: str) -> bool:
        """Told by two numbers and a tab in its first line."""
        return bool(_LABEL.match(text.lstrip("\r\n")))


def _event(line: str, number: int) -> Event:
    cells = line.split("\t")
    if len(cells) != 3:
        raise ValueError(f"line {number}: {len(cells)} columns, wanted start, end and label")
    try:
        start, end = (float(c.replace(",", ".")) for c in cells[:2])  # some locales write commas
        label, modality = unmarked(cells[2].strip())
        return event_of(start, end, label, modality=modality)
    except ValueError as e:
        raise ValueError(f"line {number}: {e}") from e
