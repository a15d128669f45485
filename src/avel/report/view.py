"""A timeline as plain values for the page, of bounded size: lanes, curves, strips, texts.

Positions are in percent of the file's length, so that the page scales by itself.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avel import clock
from avel.errors import counted
from avel.report.thumbs import attention_bytes
from avel.types import BACKGROUND, Bools, Event, EventModality, Json, Scores, Timeline

#: Most events, class rows and points of a curve on a page; the .json has everything.
MAX_EVENTS, MAX_LANES, MAX_POINTS = 1000, 12, 2000
#: Most cells of all attention maps together, and characters of a name.
MAX_CELLS, MAX_NAME = 100_000, 120

#: Most events of a single modality, and rows of them.
MAX_SINGLE, MAX_SINGLE_ROWS = 200, 4

#: An event is mostly heard above the one audio weight, mostly seen below the other.
MOSTLY_AUDIBLE, MOSTLY_VISIBLE = 0.6, 0.4

#: The least peak of the curve of a class without events.
LIKELY = 0.05

#: Colours of class rows, as hues of OKLCH; neighbours are far apart.
HUES = (262, 38, 158, 318, 85, 205, 5, 128, 288, 62, 180, 340)


@dataclass(frozen=True)
class EventView:
    """One event as the page shows it."""

    start: float
    end: float
    label: str
    score: float
    hue: int
    left: float
    width: float
    times: str
    length: str
    detail: str


@dataclass(frozen=True)
class Lane:
    """One class's row: its events and, where there are scores, its probability curve.

    ``path`` is the curve's in a box that is ``points`` wide, one a value, and 1000 high.
    """

    label: str
    hue: int
    events: tuple[EventView, ...]
    summary: str
    path: str
    points: float
    values: tuple[int, ...]


@dataclass(frozen=True)
class SingleModalityLane:
    """Events that are only audible or only visible, of all classes, in rows without overlaps.

    ``left_out`` counts the events beyond the limits.
    """

    modality: EventModality
    label: str
    summary: str
    rows: tuple[tuple[EventView, ...], ...]
    left_out: int


@dataclass(frozen=True)
class Strip:
    """A row of spans with a property, e.g. where the file is audible."""

    label: str
    spans: tuple[tuple[float, float], ...]
    summary: str


def short_time(seconds: float) -> str:
    """``0:07``, ``0:07.5`` or ``1:02:03``: as players write it, hours only where needed."""
    decimals = 0 if abs(seconds - round(seconds)) < 0.005 else 1
    text = clock.format_time(seconds, decimals=decimals, hours=seconds >= 3600)
    return text[1:] if text.startswith("0") else text


def span_text(start: float, end: float) -> str:
    """``0:03 – 0:07``."""
    return f"{short_time(start)} – {short_time(end)}"


def length_text(seconds: float) -> str:
    """``4 s``, ``2.5 s`` or ``3 min 20 s``."""
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def detail_text(event: Event, step: float) -> str:
    """``mostly heard, heard 1.2 s later``: an event's audio weight and lag in words.

    Args:
        event: The event; the text is empty where it has neither, or they say little.
        step: Seconds of a segment: a lag of less than half of it isn't told.
    """
    weight, lag = event.audio_weight, event.lag
    words = []
    if weight is not None and not MOSTLY_VISIBLE <= weight <= MOSTLY_AUDIBLE:
        words.append("mostly heard" if weight > MOSTLY_AUDIBLE else "mostly seen")
    if lag is not None and abs(lag) >= step / 2:
        words.append(f"{'heard' if lag > 0 else 'seen'} {round(abs(lag), 2):g} s later")
    return ", ".join(words)


def shown_name(name: str) -> str:
    """A class's name, no longer than ``MAX_NAME``."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def single_modality_text(timeline: Timeline) -> str:
    """Events that are only heard or only seen, in words; empty if there are none.

    ``Heard only: speech 0:03-0:09.`` The three longest of each modality are named, others
    counted. If no event is both, the first sentence says so.
    """
    sentences = []
    for what, events in (("Heard", timeline.lane("audio")), ("Seen", timeline.lane("visual"))):
        if events:
            longest = sorted(events, key=lambda e: e.start - e.end)[:3]
            named = [
                f"{shown_name(e.label)} {short_time(e.start)}-{short_time(e.end)}"
                for e in sorted(longest)
            ]
            more = f", and {len(events) - 3} more" if len(events) > 3 else ""
            sentences.append(f"{what} only: {', '.join(named)}{more}.")
    if sentences and not timeline.events:
        sentences.insert(0, "No event is both seen and heard.")
    return " ".join(sentences)


def _place(start: float, end: float, duration: float) -> tuple[float, float]:
    left, right = 100 * clock.share(start, duration), 100 * clock.share(end, duration)
    return round(left, 4), round(max(right - left, 0.0), 4)


def shown_events(timeline: Timeline) -> tuple[Event, ...]:
    """All events, or the ``MAX_EVENTS`` of the highest scores, in order of time."""
    if len(timeline.events) <= MAX_EVENTS:
        return timeline.events
    surest = sorted(timeline.events, key=lambda e: -e.score)[:MAX_EVENTS]
    return tuple(sorted(surest))


def lanes(timeline: Timeline, events: Sequence[Event], *, more: int = 0) -> list[Lane]:
    """A row for each class with events, the longest total time first; at most ``MAX_LANES``.

    Without events: the three most probable classes.

    Args:
        timeline: The scores.
        events: Those that are shown.
        more: Additional rows of the most probable classes without events.
    """
    total: dict[str, float] = {}
    for e in events:
        total[e.label] = total.get(e.label, 0.0) + (e.end - e.start)
    detected = sorted(total, key=lambda n: -total[n])
    count = len(detected) + more if detected else max(3, more)
    others = [n for n in _likely(timeline.scores, count) if n not in total]
    names = [*detected, *others[:more]][:MAX_LANES] or _likely(timeline.scores, count)
    return [_lane(timeline, name, hue, events) for name, hue in zip(names, HUES, strict=False)]


def _likely(scores: Scores | None, count: int) -> list[str]:
    if scores is None or not len(scores.grid):
        return []
    peaks = np.nan_to_num(scores.values[:, :-1]).max(axis=0)
    best = np.argsort(-peaks, kind="stable")[:count]
    return [scores.classes[i] for i in best if peaks[i] >= LIKELY]


def _lane(timeline: Timeline, name: str, hue: int, events: Sequence[Event]) -> Lane:
    class_events = tuple(event_view(e, timeline, hue) for e in events if e.label == name)
    values = curve(timeline.scores, name)
    path, points = curve_path(values, timeline.scores)
    spent = length_text(sum(e.end - e.start for e in class_events))
    count = f"{counted(len(class_events), 'event')}, {spent}" if class_events else ""
    peak = f"peak {max(values) / 1000:.2f}" if values and not class_events else ""
    return Lane(shown_name(name), hue, class_events, count or peak, path, points, values)


def step_of(timeline: Timeline) -> float:
    """Seconds of a segment; 1 where the timeline has no scores."""
    return timeline.scores.grid.step if timeline.scores else 1.0


def event_view(event: Event, timeline: Timeline, hue: int) -> EventView:
    """An event of a timeline with its position, colour and texts."""
    left, width = _place(event.start, event.end, timeline.duration)
    times, length = span_text(event.start, event.end), length_text(event.end - event.start)
    name = shown_name(event.label)
    detail = detail_text(event, step_of(timeline))
    return EventView(
        event.start, event.end, name, event.score, hue, left, width, times, length, detail
    )


def bin_size(count: int) -> int:
    """How many segments share one point of a curve."""
    return max(1, math.ceil(count / MAX_POINTS))


def single_modality_lanes(timeline: Timeline) -> list[SingleModalityLane]:
    """The lanes of events that are only audible and only visible, if there are any.

    The events of the largest duration times score are shown, at most ``MAX_SINGLE`` in
    ``MAX_SINGLE_ROWS`` rows.
    """
    known: tuple[tuple[EventModality, str], ...] = (
        ("audio", "Heard, not seen"),
        ("visual", "Seen, not heard"),
    )
    return [_single_modality_lane(timeline, m, label) for m, label in known if timeline.lane(m)]


def _single_modality_lane(
    timeline: Timeline, modality: EventModality, label: str
) -> SingleModalityLane:
    events = timeline.lane(modality)
    first = sorted(events, key=lambda e: (-(e.end - e.start) * e.score, e.start))
    rows: list[list[Event]] = []
    for event in first[:MAX_SINGLE]:
        free = (r for r in rows if all(e.end <= event.start or event.end <= e.start for e in r))
        row = next(free, None)
        if row is None and len(rows) < MAX_SINGLE_ROWS:
            rows.append(row := [])
        if row is not None:
            row.append(event)
    shown = [tuple(event_view(e, timeline, 0) for e in sorted(row)) for row in rows]
    count = counted(len(events), "event")
    left_out = len(events) - sum(map(len, shown))
    summary = f"{count}, {len(events) - left_out} shown" if left_out else count
    return SingleModalityLane(modality, label, summary, tuple(shown), left_out)


def curve(scores: Scores | None, name: str) -> tuple[int, ...]:
    """A class's probabilities in thousandths, at most ``MAX_POINTS``: the highest of each bin."""
    if scores is None or name not in scores.classes:
        return ()
    column = np.nan_to_num(scores.values[:, scores.classes.index(name)].astype(np.float64))
    size = bin_size(len(column))
    padded = np.pad(column, (0, -len(column) % size))
    peaks = padded.reshape(-1, size).max(axis=1)
    return tuple(int(v) for v in (peaks.clip(0, 1) * 1000).round())


def curve_path(values: Sequence[int], scores: Scores | None) -> tuple[str, float]:
    """The curve with the area under it as an SVG path, and the width of its box in points.

    A value is constant over its segment, so the curve consists of steps: one unit a point, 1000
    high. The path begins and ends at 0 and isn't closed, so that no base line is drawn.
    """
    if not values or scores is None:
        return "", 0.0
    width = round(scores.grid.duration / (bin_size(len(scores.grid)) * scores.grid.step), 4)
    path, level = ["M0 1000"], 0
    for first, stop, value in clock.runs(values):
        across = f"h{stop - first}" if stop < len(values) else f"H{width:g}"
        path.append(f"v{level - value}{across}" if value != level else across)
        level = value
    return f"{''.join(path)}V1000", width


def strips(scores: Scores | None) -> list[Strip]:
    """Where the file is audible and visible; empty if that isn't known."""
    if scores is None:
        return []
    known = (("Heard", scores.audible), ("Seen", scores.visible))
    return [_strip(scores, label, flags) for label, flags in known if flags is not None]


def _strip(scores: Scores, label: str, flags: Bools) -> Strip:
    size = bin_size(len(flags))
    bins = np.pad(flags, (0, -len(flags) % size)).reshape(-1, size)
    merged = [int(row.any()) for row in bins]
    spans = []
    for first, stop, on in clock.runs(merged):
        if on:
            start = scores.grid.bounds(first * size)[0]
            end = scores.grid.bounds(min(stop * size, len(flags)) - 1)[1]
            spans.append(_place(start, end, scores.grid.duration))
    return Strip(label, tuple(spans), f"{round(100 * float(flags.mean()))} % of the time")


def label_at(timeline: Timeline, seconds: float) -> tuple[str, float]:
    """The label and score at an instant: of an event, else background; empty without scores."""
    events = [e for e in timeline.events if e.start <= seconds < e.end]
    if events:
        best = max(events, key=lambda e: e.score)
        return best.label, best.score
    return (BACKGROUND, 0.0) if timeline.scores is not None else ("", 0.0)


def attention(scores: Scores | None, times: Sequence[float] = ()) -> Json | None:
    """The attention maps for the page: size, seconds of each, and base64 bytes.

    Args:
        scores: Of the maps at most ``MAX_CELLS`` cells are taken, evenly spread over longer files.
        times: Times whose own maps are added.
    """
    if scores is None or scores.attention is None or not len(scores.grid):
        return None
    maps, grid = scores.attention, scores.grid
    size = max(bin_size(len(maps)), math.ceil(maps.size / MAX_CELLS))
    indices = [min(clock.segment_at(t, grid.step), len(grid) - 1) for t in times]
    return {
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "seconds": size * grid.step,
        "data": _base64(attention_bytes(maps, range(0, len(maps), size))),
        "thumbnails": _base64(attention_bytes(maps, indices)),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def page_data(
    timeline: Timeline,
    events: Sequence[Event],
    rows: Sequence[Lane],
    thumb_times: Sequence[float] = (),
    single: Sequence[SingleModalityLane] = (),
) -> Json:
    """The values that the page's script reads: times, curves and attention maps.

    Args:
        timeline: The events and scores.
        events: Those shown.
        rows: The class rows.
        thumb_times: Of the thumbnails, in seconds.
        single: The lanes of events of a single modality.
    """
    scores, step = timeline.scores, step_of(timeline)
    return {
        "duration": timeline.duration,
        "step": step,
        "bin": bin_size(len(scores.grid)) * step if scores else step,
        "events": [
            [e.start, e.end, shown_name(e.label), None if timeline.corrected else round(e.score, 4)]
            for e in events
        ],
        "lanes": [{"label": r.label, "hue": r.hue, "values": r.values} for r in rows],
        "single": [
            [e.start, e.end, e.label, round(e.score, 4), lane.label]
            for lane in single
            for row in lane.rows
            for e in row
        ],
        "attention": attention(scores, thumb_times),
    }
