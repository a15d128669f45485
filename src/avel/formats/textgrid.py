"""Praat's TextGrids: tiers of intervals, in the long text form; read in the short one too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from avel import clock
from avel.formats.base import (
    MAX_ROWS,
    Format,
    SkippedRows,
    event_of,
    formats,
    label_with_modality,
    seconds_of,
    split_label,
    stem_of,
    timeline_of,
)
from avel.formats.lanes import Lanes
from avel.types import Event, Timeline

_MILLION = 10**6
#: What Praat reads of a text file: texts in quotes, flags, comments, and words, of which only those
#: that are numbers count.
_TOKEN = re.compile(r'"([^"]*(?:""[^"]*)*)"|(<\w+>)|![^\r\n]*|([^\s"!][^\s"]*)|(")')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_INTERVALS, _POINTS = "IntervalTier", "TextTier"


class _Interval(NamedTuple):
    """An interval as it is written: microseconds, and its text."""

    start: int
    end: int
    text: str


@formats.register("textgrid")
class TextGrid(Format):
    """A tier a class; events of a class that overlap stand in tiers of their own."""

    title = "Praat TextGrid"
    ending = ".textgrid"
    reads = (".textgrid",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The long text form; the intervals between the events are empty, as Praat has them."""
        tiers = _tiers(timeline)
        last = max((t[-1].end for _, t in tiers if t), default=1)
        end = max(last, clock.ticks(timeline.duration, _MILLION))
        lines = [
            'File type = "ooTextFile"', 'Object class = "TextGrid"', "",
            "xmin = 0", f"xmax = {_decimal(end)}", "tiers? <exists>", f"size = {len(tiers)}",
            "item []:",
        ]  # fmt: skip
        for number, (name, intervals) in enumerate(tiers, start=1):
            rows = list(_with_gaps(intervals, end))
            lines += [
                f"    item [{number}]:", f'        class = "{_INTERVALS}"',
                f"        name = {_quoted(name)}", "        xmin = 0",
                f"        xmax = {_decimal(end)}", f"        intervals: size = {len(rows)}",
            ]  # fmt: skip
            for row_number, row in enumerate(rows, start=1):
                lines += [
                    f"        intervals [{row_number}]:",
                    f"            xmin = {_decimal(row.start)}",
                    f"            xmax = {_decimal(row.end)}",
                    f"            text = {_quoted(row.text)}",
                ]
        return "\n".join(lines) + "\n"

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The intervals of all tiers that have a text; points have no length and are left out."""
        values = _Values(text)
        if not values.text().startswith("ooTextFile") or values.text() != "TextGrid":
            raise ValueError("no TextGrid in its first lines")
        values.number()  # its start
        duration = seconds_of(values.number())
        events: list[Event] = []
        for tier in range(1, values.flagged_count() + 1):
            kind, name = values.text(), values.text()
            values.number(), values.number()  # the tier's own start and end
            for row in range(1, values.count() + 1):
                where = f"tier {tier} ({name[:40]}), row {row}"
                if kind == _INTERVALS:
                    start, end, words = values.number(), values.number(), values.text().strip()
                    if words:
                        with skipped.row(where):
                            label, modality = split_label(words)
                            events.append(event_of(start, end, label, modality=modality))
                elif kind == _POINTS:
                    values.number(), values.text()
                    skipped.skip(where, "a point has no length")
                else:
                    raise ValueError(f"a tier of class {kind[:40]!r}")
        return [timeline_of(stem_of(path), events, duration=duration)]


def _tiers(timeline: Timeline) -> list[tuple[str, list[_Interval]]]:
    """Names and intervals of the tiers, by the classes' first events; one where there is none."""
    lanes: dict[str, Lanes] = {}
    tiers: dict[tuple[str, int], list[_Interval]] = {}
    for event in sorted(timeline, key=lambda e: (e.start, e.end)):
        text = label_with_modality(event)
        start, end = clock.span_ticks(event.start, event.end, _MILLION)
        lane = lanes.setdefault(text, Lanes()).place(start, end)
        tiers.setdefault((text, lane), []).append(_Interval(start, end, text))
    named = [
        (text if lane == 0 else f"{text} ({lane + 1})", intervals)
        for (text, lane), intervals in tiers.items()
    ]
    return named or [("events", [])]


def _with_gaps(intervals: list[_Interval], end: int) -> Iterator[_Interval]:
    """The intervals with empty ones between them, from 0 to the end."""
    at = 0
    for interval in intervals:
        if interval.start > at:
            yield _Interval(at, interval.start, "")
        yield interval
        at = interval.end
    if at < end:
        yield _Interval(at, end, "")


def _decimal(ticks: int) -> str:
    return f"{ticks // _MILLION}.{ticks % _MILLION:06d}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class _Values:
    """The texts, numbers and flags of a Praat text file, in order; all else is passed over."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.finditer(text)

    def _next(self, group: int, expected: str) -> str:
        for token in self._tokens:
            quoted, flag, word, open_quote = token.groups()
            if open_quote:
                raise ValueError("a text without a closing quote")
            if group == 3 and word and _NUMBER.fullmatch(word):
                return str(word)
            value = (quoted, flag)[group - 1] if group < 3 else None
            if value is not None:
                return str(value)
            if quoted is not None or flag or (word and _NUMBER.fullmatch(word)):
                raise ValueError(f"{token.group()[:40]!r}: expected {expected}")
        raise ValueError(f"the file ends: expected {expected}")

    def text(self) -> str:
        """The next value, a text in quotes."""
        return self._next(1, "a text in quotes").replace('""', '"')

    def number(self) -> float:
        """The next value, a number."""
        return float(self._next(3, "a number"))

    def count(self) -> int:
        """The next value, a number of rows."""
        number = self.number()
        if not 0 <= number <= MAX_ROWS or number != int(number):
            raise ValueError(f"{number:g} rows: expected 0 to {MAX_ROWS}")
        return int(number)

    def flagged_count(self) -> int:
        """The number of tiers behind the flag that tells whether there are any."""
        return self.count() if self._next(2, "<exists> or <absent>") == "<exists>" else 0
