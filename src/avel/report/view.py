"""What the page shows of a timeline, as plain values of bounded size: lanes, curves, strips, words.

Positions are shares of the file's length in percent, so that the page scales by itself.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avel import clock
from avel.report.thumbs import attention_bytes
from avel.types import BACKGROUND, Bools, Event, EventModality, Json, Scores, Timeline

#: Most events, class rows and points of a curve on a page; the .json holds everything.
MAX_EVENTS, MAX_LANES, MAX_POINTS = 1000, 12, 2000
#: Most cells of all attention maps together, and letters of a name.
MAX_CELLS, MAX_NAME = 100_000, 120

#: Most events of one modality, and rows of them that lie above each other.
MAX_APART, MAX_APART_ROWS = 200, 4

#: The least peak of the curve of a class that wasn't found.
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
class SingleLane:
    """What is only audible, or only visible: of all classes, in rows where no two overlap.

    ``left_out`` counts the events that found no room.
    """

    modality: EventModality
    label: str
    summary: str
    rows: tuple[tuple[EventView, ...], ...]
    left_out: int


@dataclass(frozen=True)
class Strip:
    """A row of stretches where something holds, e.g. where the file can be heard."""

    label: str
    spans: tuple[tuple[float, float], ...]
    summary: str


def short_time(seconds: float, *, duration: float = 0.0) -> str:
    """``0:07``, ``0:07.5`` or ``1:02:03``: as players write it, hours only where needed."""
    decimals = 0 if abs(seconds - round(seconds)) < 0.005 else 1
    hours = max(seconds, duration) >= 3600
    text = clock.format_time(seconds, decimals=decimals, hours=hours)
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


def shown_name(name: str) -> str:
    """A class's name, no longer than ``MAX_NAME``."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def of_one_modality(timeline: Timeline, *, most: int = 3) -> str:
    """What is only heard and what is only seen, in words; empty where there is nothing.

    ``Heard only: speech 0:03-0:09.`` Where no event is both, the first sentence says so.

    Args:
        timeline: What was found.
        most: Events named of each modality, the longest; of others how many there are.
    """
    said = []
    for what, apart in (("Heard", timeline.lane("audio")), ("Seen", timeline.lane("visual"))):
        if apart:
            longest = sorted(apart, key=lambda e: e.start - e.end)[:most]
            named = [
                f"{shown_name(e.label)} {short_time(e.start)}-{short_time(e.end)}"
                for e in sorted(longest)
            ]
            more = f", and {len(apart) - most} more" if len(apart) > most else ""
            said.append(f"{what} only: {', '.join(named)}{more}.")
    if said and not timeline.events:
        said.insert(0, "No event is both seen and heard.")
    return " ".join(said)


def _place(start: float, end: float, duration: float) -> tuple[float, float]:
    left, right = 100 * clock.share(start, duration), 100 * clock.share(end, duration)
    return round(left, 4), round(max(right - left, 0.0), 4)


def shown_events(timeline: Timeline) -> tuple[Event, ...]:
    """All events, or the surest ``MAX_EVENTS`` where there are more, in order of time."""
    if len(timeline.events) <= MAX_EVENTS:
        return timeline.events
    surest = sorted(timeline.events, key=lambda e: -e.score)[:MAX_EVENTS]
    return tuple(sorted(surest))


def lanes(timeline: Timeline, events: Sequence[Event], *, more: int = 0) -> list[Lane]:
    """A row for each class that was found, the longest heard of first; at most ``MAX_LANES``.

    Where nothing was found: the three most probable classes, without events.

    Args:
        timeline: What was found.
        events: Those that are shown.
        more: Rows, besides, of so many classes that weren't found: the most probable ones.
    """
    total: dict[str, float] = {}
    for e in events:
        total[e.label] = total.get(e.label, 0.0) + (e.end - e.start)
    found = sorted(total, key=lambda n: -total[n])
    count = len(found) + more if found else max(3, more)
    others = [n for n in _likely(timeline.scores, count) if n not in total]
    names = [*found, *others[:more]][:MAX_LANES] or _likely(timeline.scores, count)
    return [_lane(timeline, name, hue, events) for name, hue in zip(names, HUES, strict=False)]


def _likely(scores: Scores | None, count: int) -> list[str]:
    if scores is None or not len(scores.grid):
        return []
    peaks = np.nan_to_num(scores.values[:, :-1]).max(axis=0)
    best = np.argsort(-peaks, kind="stable")[:count]
    return [scores.classes[i] for i in best if peaks[i] >= LIKELY]


def _lane(timeline: Timeline, name: str, hue: int, events: Sequence[Event]) -> Lane:
    own = tuple(event_view(e, timeline.duration, hue) for e in events if e.label == name)
    values = curve(timeline.scores, name)
    path, points = curve_path(values, timeline.scores)
    spent = length_text(sum(e.end - e.start for e in own))
    count = f"{len(own)} event{'s' * (len(own) != 1)}, {spent}" if own else ""
    peak = f"at most {max(values) / 1000:.2f}" if values and not own else ""
    return Lane(shown_name(name), hue, own, count or peak, path, points, values)


def event_view(event: Event, duration: float, hue: int) -> EventView:
    """An event with its place, colour and words."""
    left, width = _place(event.start, event.end, duration)
    times, length = span_text(event.start, event.end), length_text(event.end - event.start)
    name = shown_name(event.label)
    return EventView(event.start, event.end, name, event.score, hue, left, width, times, length)


def bin_size(count: int) -> int:
    """How many segments share one point of a curve."""
    return max(1, math.ceil(count / MAX_POINTS))


def apart_lanes(timeline: Timeline) -> list[SingleLane]:
    """The lanes of what is only audible and only visible, where there is any.

    The longest and surest events come first to a place; at most ``MAX_APART`` in
    ``MAX_APART_ROWS`` rows.
    """
    known: tuple[tuple[EventModality, str], ...] = (
        ("audio", "Heard, not seen"),
        ("visual", "Seen, not heard"),
    )
    return [_apart_lane(timeline, m, label) for m, label in known if timeline.lane(m)]


def _apart_lane(timeline: Timeline, modality: EventModality, label: str) -> SingleLane:
    found = timeline.lane(modality)
    first = sorted(found, key=lambda e: (-(e.end - e.start) * e.score, e.start))
    rows: list[list[Event]] = []
    for event in first[:MAX_APART]:
        free = (r for r in rows if all(e.end <= event.start or event.end <= e.start for e in r))
        row = next(free, None)
        if row is None and len(rows) < MAX_APART_ROWS:
            rows.append(row := [])
        if row is not None:
            row.append(event)
    shown = [tuple(event_view(e, timeline.duration, 0) for e in sorted(row)) for row in rows]
    count = f"{len(found)} event{'s' * (len(found) != 1)}"
    left_out = len(found) - sum(map(len, shown))
    summary = f"{count}, {len(found) - left_out} shown" if left_out else count
    return SingleLane(modality, label, summary, tuple(shown), left_out)


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
    """The curve with the area under it as an SVG path, and how many points wide its box is.

    A value holds for its whole segment, so the curve is made of steps: one unit a point, 1000 high.
    The path begins and ends at the foot and isn't closed, so that the foot isn't drawn.
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
    """Where the file is heard and seen; nothing where that isn't known."""
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
    """What the decision says of an instant, and how sure it is; empty where nothing is known."""
    held = [e for e in timeline.events if e.start <= seconds < e.end]
    if held:
        best = max(held, key=lambda e: e.score)
        return best.label, best.score
    return (BACKGROUND, 0.0) if timeline.scores is not None else ("", 0.0)


def attention(scores: Scores | None, times: Sequence[float] = ()) -> Json | None:
    """The attention maps for the page: size, seconds that each holds for, and base64 bytes.

    Args:
        scores: Their maps, at most ``MAX_CELLS`` cells of them: of longer files every so many.
        times: Instants whose own maps are given besides.
    """
    if scores is None or scores.attention is None or not len(scores.grid):
        return None
    maps, grid = scores.attention, scores.grid
    size = max(bin_size(len(maps)), math.ceil(maps.size / MAX_CELLS))
    own = [min(clock.segment_at(t, grid.step), len(grid) - 1) for t in times]
    return {
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "seconds": size * grid.step,
        "data": _base64(attention_bytes(maps, range(0, len(maps), size))),
        "moments": _base64(attention_bytes(maps, own)),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def page_data(
    timeline: Timeline,
    events: Sequence[Event],
    rows: Sequence[Lane],
    moments: Sequence[float] = (),
    apart: Sequence[SingleLane] = (),
) -> Json:
    """What the page's script needs: times, the curves' values and the attention maps.

    Args:
        timeline: What was found.
        events: Those shown.
        rows: The class rows.
        moments: The instants of the pictures.
        apart: The lanes of what is only audible or only visible.
    """
    scores = timeline.scores
    step = scores.grid.step if scores else 1.0
    return {
        "duration": timeline.duration,
        "step": step,
        "bin": bin_size(len(scores.grid)) * step if scores else step,
        "events": [
            [e.start, e.end, shown_name(e.label), None if timeline.corrected else round(e.score, 4)]
            for e in events
        ],
        "lanes": [{"label": r.label, "hue": r.hue, "values": r.values} for r in rows],
        "apart": [
            [e.start, e.end, e.label, round(e.score, 4), lane.label]
            for lane in apart
            for row in lane.rows
            for e in row
        ],
        "attention": attention(scores, moments),
    }
