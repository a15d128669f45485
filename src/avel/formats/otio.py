"""OpenTimelineIO: the video as a clip on a timeline, its events as markers that editors show.

Written and read as plain JSON after the published schemas (Timeline.1, Clip.1, Marker.2), and
checked in the tests with OpenTimelineIO itself. Its own reader isn't used on strangers' files:
it is C++ that recurses, and deeply nested JSON ends the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    event_of,
    file_uri,
    formats,
    label_to_write,
    name_of,
    names_apart,
    notes_of,
    number_of,
    object_of,
    rows_of,
    stem_of,
    timeline_of,
)
from avel.formats.frames import frame_clock
from avel.formats.marks import with_mark
from avel.formats.text import escape, unescape
from avel.types import Event, Json, Timeline

_COLOURS = ("RED", "ORANGE", "YELLOW", "GREEN", "CYAN", "BLUE", "PURPLE", "MAGENTA", "PINK")


@formats.register("otio")
class Otio(Format):
    """A clip on a video and a sound track, a marker an event, a colour a class."""

    title = "OpenTimelineIO (video editors)"
    ending = ".otio"
    reads = (".otio",)
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The timeline at the video's own frame rate and timecode, where the video can be read."""
        frames = frame_clock(timeline.video)
        rate, timecode = frames.rate, frames.clock
        address = file_uri(timeline.video, path)
        visual = [_clip(timeline, address, rate, timecode, markers=True)]
        audio = [_clip(timeline, address, rate, timecode, markers=False)]
        tracks = [_track("Video", visual), _track("Audio", audio)]
        name = Path(timeline.video).stem
        stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", **_empty(), "children": tracks}
        avel_metadata: Json = {"model": timeline.model.get("model", "")}
        avel_metadata |= {"predictions": self.mark(timeline)} if timeline.predicted else {}
        avel_metadata |= {"notes": list(notes)} if (notes := notes_of(timeline.notes)) else {}
        whole = {
            "OTIO_SCHEMA": "Timeline.1",
            "metadata": {"avel": avel_metadata},
            "name": name,
            "global_start_time": None,
            "tracks": stack,
        }
        return json.dumps(whole, indent=4, allow_nan=False) + "\n"

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """A timeline a media file that has markers; those of the whole timeline go to its clip."""
        data = object_of(json.loads(text))
        if not str(data.get("OTIO_SCHEMA", "")).startswith("Timeline."):
            raise ValueError(f"a {str(data.get('OTIO_SCHEMA'))[:40]}, expected a Timeline")
        by_media: dict[str, list[Event]] = {}
        lengths: dict[str, float] = {}
        loose: list[Event] = []
        markers = _Markers(skipped)
        for number, item in enumerate(_items(object_of(data["tracks"])), start=1):
            media, before = None, skipped.count
            with skipped.row(f"item {number}"):
                media = _media(item)
            skipped.read_count -= skipped.count == before  # what counts is markers
            if media is None and skipped.count == before:
                loose += markers.of(item, clock.Clock())
                continue
            if media is None:
                continue
            address, media_clock, length = media
            by_media.setdefault(address, []).extend(markers.of(item, media_clock))
            lengths[address] = max(lengths.get(address, 0.0), length)
        if loose or not by_media:
            address = next(iter(by_media)) if len(by_media) == 1 else stem_of(path)
            by_media.setdefault(address, []).extend(loose)
        names = names_apart(by_media, stem_of(path))
        timelines: dict[str, Timeline] = {}
        for address, events in by_media.items():
            earlier = timelines[names[address]].events if names[address] in timelines else ()
            timelines[names[address]] = timeline_of(
                names[address],
                [*earlier, *events],
                duration=round(lengths.get(address, 0.0), 6),
            )
        notes = _ours(data).get("notes")
        if isinstance(notes, list) and len(timelines) == 1:
            timelines = {k: replace(t, notes=notes_of(notes)) for k, t in timelines.items()}
        predictions = _ours(data).get("predictions")
        mark = predictions if isinstance(predictions, str) and len(timelines) == 1 else ""
        return [with_mark(timeline, mark) for timeline in timelines.values()]


def _empty() -> Json:
    return {"metadata": {}, "source_range": None, "effects": [], "markers": [], "enabled": True}


def _time(seconds: float, rate: float) -> Json:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": seconds * rate}


def _range(start: float, end: float, rate: float) -> Json:
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": _time(start, rate),
        "duration": _time(end - start, rate),
    }


def _track(kind: str, clips: list[Json]) -> Json:
    head = {"OTIO_SCHEMA": "Track.1", "name": kind, "kind": kind}
    return {**head, **_empty(), "children": clips}


def _clip(
    timeline: Timeline, address: str, rate: float, timecode: clock.Clock, *, markers: bool
) -> Json:
    video = Path(timeline.video).absolute()
    whole = _range(timecode.from_file(0.0), timecode.from_file(timeline.duration), rate)
    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": whole,
        "target_url": address,
    }
    head = {"OTIO_SCHEMA": "Clip.1", "name": video.name}
    colours: dict[str, str] = {}
    for number, name in enumerate(timeline.classes):
        colours.setdefault(name, _COLOURS[number % len(_COLOURS)])
    shown = [_marker(e, colours, rate, timecode) for e in timeline] if markers else []
    return {**head, **_empty(), "source_range": whole, "markers": shown, "media_reference": media}


def _marker(event: Event, colours: Mapping[str, str], rate: float, timecode: clock.Clock) -> Json:
    metadata: Json = {"score": round(float(event.score), 6)}
    if event.modality != "both":
        metadata["modality"] = event.modality
    return {
        "OTIO_SCHEMA": "Marker.2",
        "metadata": {"avel": metadata},
        "name": escape(label_to_write(event)),
        "color": colours.get(event.label, _COLOURS[0]),
        "marked_range": _range(
            timecode.from_file(event.start), timecode.from_file(event.end), rate
        ),
    }


def _items(root: Json) -> Iterator[Json]:
    """A composition and everything in it, without recursion."""
    waiting, count = [root], 0
    while waiting:
        item = waiting.pop()
        count += 1
        check_count(count, "items")
        yield item
        waiting += [object_of(c) for c in reversed(rows_of(item.get("children") or []))]


def _media(item: Json) -> tuple[str, clock.Clock, float] | None:
    """Address, clock and length of a clip's media; None where it has none."""
    active = item.get("media_reference")
    if active is None and isinstance(item.get("media_references"), Mapping):
        key = item.get("active_media_reference_key", "DEFAULT_MEDIA")
        active = item["media_references"].get(key)
    if not isinstance(active, Mapping):
        return None
    address = active.get("target_url") or active.get("name") or item.get("name") or ""
    if not isinstance(address, str):
        raise ValueError("target_url: expected a text")
    available = active.get("available_range")
    first, length = _span(object_of(available)) if available else (0.0, 0.0)
    return address, clock.Clock(first), length


def _span(time_range: Json) -> tuple[float, float]:
    """Start and duration in seconds."""
    first, length = (_seconds(object_of(time_range[k])) for k in ("start_time", "duration"))
    return first, length


def _seconds(time: Json) -> float:
    rate = number_of(time["rate"])
    if rate <= 0:
        raise ValueError(f"rate {rate}: expected more than 0")
    return clock.from_ticks(number_of(time["value"]), rate)


def _ours(item: Json) -> Mapping[str, object]:
    """What avel wrote into the metadata of an item."""
    metadata = item.get("metadata")
    ours = metadata.get("avel") if isinstance(metadata, Mapping) else None
    return ours if isinstance(ours, Mapping) else {}


class _Markers:
    """The events that an editor's markers are, counted over the file for messages."""

    def __init__(self, skipped: SkippedRows) -> None:
        self._skipped, self._count = skipped, 0

    def of(self, item: Json, media_clock: clock.Clock) -> list[Event]:
        """Those of a clip, a track or a stack, by a clock."""
        events: list[Event] = []
        for marker in rows_of(item.get("markers") or []):
            self._count += 1
            with self._skipped.row(f"marker {self._count}"):
                events.append(_event(object_of(marker), media_clock))
        return events


def _event(marker: Json, media_clock: clock.Clock) -> Event:
    label = (
        name_of(marker.get("name") or "").strip() or name_of(marker.get("comment") or "").strip()
    )
    marked_range = object_of(marker["marked_range"])
    start = media_clock.to_file(_seconds(object_of(marked_range["start_time"])))
    if not label:
        raise ValueError(f"no name at {start:g} s")
    duration = marked_range.get("duration")
    length = _seconds(object_of(duration)) if duration is not None else 0.0
    metadata = _ours(marker)
    score, modality = metadata.get("score", 1.0), metadata.get("modality", "both")
    return event_of(round(start, 6), round(start + length, 6), unescape(label), score, modality)
