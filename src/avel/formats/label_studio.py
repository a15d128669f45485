"""Label Studio's JSON: tasks with regions of time, as its own import and export write them.

Written are regions of the control ``<Labels>`` over ``<Audio>`` beside ``<Video>``, whose times
are seconds (the template "Video Timeline Segmentation"); read are those, and ``<TimelineLabels>``,
whose times are frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avel import clock
from avel.formats.base import (
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
    write_encoded,
)
from avel.types import Event, Json, Timeline

#: Frames a second that ``<Video>`` takes unless its ``frameRate`` says otherwise.
FRAME_RATE = 24.0
_MEDIA = ("video", "video_url", "audio", "audio_url", "url")


@formats.register("labelstudio")
class LabelStudio(Format):
    """Tasks for import: predictions where a model found the events, else annotations."""

    ending = ".labelstudio.json"
    reads = (".json",)
    many = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """One task."""
        return _dumped([timeline])

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """A task a video."""
        write_encoded(path, _dumped(timelines))

    def load(self, text: str, path: Path) -> list[Timeline]:
        """A timeline a task: its last annotation that wasn't cancelled, else its predictions."""
        data = json.loads(text, parse_constant=no_constant)
        tasks = rows_of(data if isinstance(data, list) else [data])
        if not tasks:
            raise ValueError("no tasks")
        return [_timeline(object_of(task), path) for task in tasks]

    def knows(self, text: str) -> bool:
        """Told by what only it has: tasks with ``data``, in a list as a rule."""
        return text.lstrip()[:1] == "[" or ('"data"' in text and '"result"' in text)


def _dumped(timelines: Sequence[Timeline]) -> str:
    # ASCII alone, so that labels with lone surrogates are written too
    return json.dumps([_task(t) for t in timelines], indent=1, allow_nan=False) + "\n"


def _task(timeline: Timeline) -> Json:
    found: Json = {"result": [_region(e, i, timeline) for i, e in enumerate(timeline)]}
    made_by_model = bool(timeline.model or timeline.scores)
    if made_by_model:
        found["model_version"] = str(timeline.model.get("model", "avel"))
        if timeline.events:
            found["score"] = round(sum(e.score for e in timeline) / len(timeline), 6)
    kind = "predictions" if made_by_model else "annotations"
    return {"data": {"video": timeline.video}, kind: [found]}


def _region(event: Event, number: int, timeline: Timeline) -> Json:
    region: Json = {
        "id": f"event{number + 1}",
        "from_name": "events",
        "to_name": "audio",
        "type": "labels",
        "original_length": timeline.duration,
        "value": {
            "start": float(event.start),
            "end": float(event.end),
            "channel": 0,
            "labels": [label_to_write(event)],
        },
        "score": round(float(event.score), 6),
    }
    if event.modality != "both":  # `meta` is what Label Studio keeps of a region as it came
        region["meta"] = {"modality": [event.modality]}
    return region


def _timeline(task: Json, path: Path) -> Timeline:
    data = object_of(task.get("data", {}))
    address = next((data[k] for k in _MEDIA if isinstance(data.get(k), str)), "")
    video = media_name(_without_upload_prefix(media_name(name_of(address), path.stem)), path.stem)
    regions = _regions(task)
    rate = data.get("fps", FRAME_RATE)
    events = [e for region in regions for e in _events(region, number_of(rate))]
    lengths = [number_of(r["original_length"]) for r in regions if r.get("original_length")]
    framed = any(r.get("type") == "timelinelabels" for r in regions)
    notes = [f"Frames were read as {rate:g} a second."] * framed
    events.sort(key=lambda e: (e.start, e.end))
    return timeline_of(video, events, duration=max(lengths, default=0.0), notes=notes)


def _without_upload_prefix(name: str) -> str:
    """``clip.mp4`` of ``1a2b3c4d-clip.mp4``, which Label Studio makes of an uploaded file."""
    head, dash, tail = name.partition("-")
    uploaded = dash and tail and len(head) == 8 and not set(head) - set("0123456789abcdef")
    return tail if uploaded else name


def _regions(task: Json) -> list[Json]:
    made = [object_of(a) for a in rows_of(task.get("annotations") or [])]
    kept = [a for a in made if not a.get("was_cancelled")]
    held = kept or [object_of(p) for p in rows_of(task.get("predictions") or [])]
    if not held:
        return []
    return [
        region
        for region in map(object_of, rows_of(held[-1].get("result", [])))
        if region.get("type") in ("labels", "timelinelabels")
    ]


def _events(region: Json, rate: float) -> Iterator[Event]:
    value = object_of(region["value"])
    score, modality = region.get("score", 1.0), _modality(region)
    spans: list[tuple[Any, Any]] = []
    if region["type"] == "labels":
        spans, labels = [(value["start"], value["end"])], value.get("labels", [])
    else:  # frames count from 1, the last one included
        labels = value.get("timelinelabels", [])
        for span in map(object_of, rows_of(value["ranges"])):
            first, last = number_of(span["start"]), number_of(span["end"])
            spans.append((clock.from_ticks(first - 1, rate), clock.from_ticks(last, rate)))
    for start, end in spans:
        for label in rows_of(labels):
            yield event_of(start, end, label, 1.0 if score is None else score, modality)


def _modality(region: Json) -> str:
    """The modality that a region's ``meta`` names; another value there isn't ours."""
    meta = region.get("meta")
    held = meta.get("modality") if isinstance(meta, dict) else None
    return held[0] if isinstance(held, list) and held[:1] in (["audio"], ["visual"]) else "both"
