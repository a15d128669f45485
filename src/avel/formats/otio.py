"""OpenTimelineIO: the video as a clip on a timeline, its events as markers that editors show.

Written and read as plain JSON after the published schemas (Timeline.1, Clip.1, Marker.2), and
checked in the tests with OpenTimelineIO itself. Its own reader isn't used on strangers' files:
it is C++ that recurses, and deeply nested JSON ends the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from avel import clock
from avel.formats.base import (
    MAX_ROWS,
    Format,
    event_of,
    formats,
    label_to_write,
    media_name,
    name_of,
    no_constant,
    number_of,
    object_of,
    rows_of,
    timeline_of,
)
from avel.formats.text import escape, unescape
from avel.types import Event, Json, Timeline

#: Frames a second that times are counted in where the video's own rate isn't known.
RATE = 25.0
_COLOURS = ("RED", "ORANGE", "YELLOW", "GREEN", "CYAN", "BLUE", "PURPLE", "MAGENTA", "PINK")


@formats.register("otio")
class Otio(Format):
    """A clip on a video and a sound track, a marker an event, a colour a class."""

    ending = ".otio"
    reads = (".otio",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The timeline at the video's own frame rate, where the video can be read."""
        rate = frame_rate(timeline.video) or RATE
        seen = [_clip(timeline, rate, path, marked=True)]
        heard = [_clip(timeline, rate, path, marked=False)]
        tracks = [_track("Video", seen), _track("Audio", heard)]
        name = Path(timeline.video).stem
        stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", **_empty(), "children": tracks}
        whole = {
            "OTIO_SCHEMA": "Timeline.1",
            "metadata": {"avel": {"model": timeline.model.get("model", "")}},
            "name": name,
            "global_start_time": None,
            "tracks": stack,
        }
        return json.dumps(whole, indent=4, allow_nan=False) + "\n"

    def load(self, text: str, path: Path) -> list[Timeline]:
        """A timeline a media file that has markers; those of the whole timeline go to its clip."""
        data = object_of(json.loads(text, parse_constant=no_constant))
        if not str(data.get("OTIO_SCHEMA", "")).startswith("Timeline."):
            raise ValueError(f"a {str(data.get('OTIO_SCHEMA'))[:40]}, wanted a Timeline")
        held: dict[str, list[Event]] = {}
        lengths: dict[str, float] = {}
        loose: list[Event] = []
        for item in _items(object_of(data["tracks"])):
            media = _media(item)
            if media is None:
                loose += _markers(item, 0.0)
                continue
            file, first, length = media
            file = media_name(file, path.stem)
            held.setdefault(file, []).extend(_markers(item, first))
            lengths[file] = max(lengths.get(file, 0.0), length)
        if loose or not held:
            file = next(iter(held)) if len(held) == 1 else path.stem
            held.setdefault(file, []).extend(loose)
        return [
            timeline_of(
                file,
                sorted(events, key=lambda e: (e.start, e.end)),
                duration=round(lengths.get(file, 0.0), 6),
            )
            for file, events in held.items()
        ]


def frame_rate(video: str) -> float:
    """A video's frames a second; 0 where it can't be read or has no picture."""
    if not Path(video).is_file():
        return 0.0
    from avel.errors import AvelError
    from avel.media import open_media

    try:
        track = open_media(video).video
    except AvelError:
        return 0.0
    return float(track.fps) if track is not None else 0.0


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


def _clip(timeline: Timeline, rate: float, path: Path, *, marked: bool) -> Json:
    place = Path(timeline.video).absolute()
    whole = _range(0.0, timeline.duration, rate)
    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": whole,
        "target_url": place.as_uri(),
    }
    head = {"OTIO_SCHEMA": "Clip.1", "name": place.name}
    markers = [_marker(e, timeline, rate) for e in timeline] if marked else []
    return {**head, **_empty(), "source_range": whole, "markers": markers, "media_reference": media}


def _marker(event: Event, timeline: Timeline, rate: float) -> Json:
    place = timeline.classes.index(event.label) if event.label in timeline.classes else 0
    ours: Json = {"score": round(float(event.score), 6)}
    if event.modality != "both":
        ours["modality"] = event.modality
    return {
        "OTIO_SCHEMA": "Marker.2",
        "metadata": {"avel": ours},
        "name": escape(label_to_write(event)),
        "color": _COLOURS[place % len(_COLOURS)],
        "marked_range": _range(event.start, event.end, rate),
    }


def _items(root: Json) -> Iterator[Json]:
    """A composition and everything in it, without recursion."""
    waiting, count = [root], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if count > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} items")
        yield item
        waiting += [object_of(c) for c in reversed(rows_of(item.get("children") or []))]


def _media(item: Json) -> tuple[str, float, float] | None:
    """Address, first instant and length of a clip's media; None where it has none."""
    active = item.get("media_reference")
    if active is None and isinstance(item.get("media_references"), Mapping):
        key = item.get("active_media_reference_key", "DEFAULT_MEDIA")
        active = item["media_references"].get(key)
    if not isinstance(active, Mapping):
        return None
    address = active.get("target_url") or active.get("name") or item.get("name") or ""
    if not isinstance(address, str):
        raise ValueError("target_url: wanted a text")
    available = active.get("available_range")
    first, length = _span(object_of(available)) if available else (0.0, 0.0)
    return address, first, length


def _span(held: Json) -> tuple[float, float]:
    """Start and duration in seconds."""
    first, length = (_seconds(object_of(held[k])) for k in ("start_time", "duration"))
    return first, length


def _seconds(held: Json) -> float:
    rate = number_of(held["rate"])
    if rate <= 0:
        raise ValueError(f"rate {rate}: wanted more than 0")
    return clock.from_ticks(number_of(held["value"]), rate)


def _markers(item: Json, first: float) -> Iterator[Event]:
    for marker in map(object_of, rows_of(item.get("markers") or [])):
        start, length = _span(object_of(marker["marked_range"]))
        metadata = marker.get("metadata")
        ours = metadata.get("avel") if isinstance(metadata, Mapping) else None
        ours = ours if isinstance(ours, Mapping) else {}
        score, modality = ours.get("score", 1.0), ours.get("modality", "both")
        begin = start - first
        label = unescape(name_of(marker.get("name")).strip())
        yield event_of(round(begin, 6), round(begin + length, 6), label, score, modality)
