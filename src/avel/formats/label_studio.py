"""Label Studio's JSON: tasks with regions of time, as its own import and export write them.

Written are regions of the control ``<Labels>`` over ``<Audio>`` beside ``<Video>``, whose times
are seconds (the template "Video Timeline Segmentation"); read are those, and ``<TimelineLabels>``,
whose times are frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    event_of,
    formats,
    label_to_write,
    media_name,
    name_of,
    names_apart,
    notes_of,
    number_of,
    object_of,
    rows_of,
    stem_of,
    timeline_of,
)
from avel.types import Event, Json, Timeline

#: Frames a second that ``<Video>`` takes unless its ``frameRate`` says otherwise.
FRAME_RATE = 24.0
_MEDIA = ("video", "video_url", "audio", "audio_url", "url")
#: What regions have, and the answers to a task's other questions don't.
_REGION = ("start", "ranges", "sequence", "x")
_NO_TASK = "expected tasks with annotations or predictions, or JSON_MIN's regions"


@formats.register("labelstudio")
class LabelStudio(Format):
    """Tasks for import: predictions where a model found the events, else annotations."""

    title = "Label Studio"
    ending = ".labelstudio.json"
    reads = (".json",)
    many = True
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """One task."""
        return _dump([timeline])

    def write_all(self, timelines: Sequence[Timeline], path: Path) -> None:
        """A task a video."""
        self.put(path, _dump(timelines), timelines)

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """A timeline a task: its last annotation that wasn't cancelled, else its predictions."""
        data = json.loads(text)
        tasks = rows_of(data if isinstance(data, list) else [data])
        if not tasks:
            skipped.note("There are no tasks in it.")
            return [timeline_of(stem_of(path), [])]
        rows = []
        for number, task in enumerate(tasks, start=1):
            with skipped.row(f"task {number}"):
                rows.append((f"task {number}", object_of(task), _address(object_of(task))))
        skipped.read_count = 0  # of regions, from here on
        names = names_apart([address for *_, address in rows], stem_of(path))
        timelines = [_timeline(task, names[a], where, skipped) for where, task, a in rows]
        if not timelines or not any(map(_is_task, (task for _, task, _ in rows))):
            raise ValueError(skipped.reasons or f"no task: {_NO_TASK}")
        return timelines

    def recognizes(self, text: str) -> bool:
        """Recognized by what only it has: tasks with ``data``, in a list as a rule."""
        return text.lstrip()[:1] == "[" or ('"data"' in text and '"result"' in text)


def _dump(timelines: Sequence[Timeline]) -> str:
    # ASCII alone, so that labels with lone surrogates are written too
    return json.dumps([_task(t) for t in timelines], indent=1, allow_nan=False) + "\n"


def _task(timeline: Timeline) -> Json:
    result: Json = {"result": [_region(e, i, timeline) for i, e in enumerate(timeline)]}
    made_by_model = timeline.predicted
    if made_by_model:
        result["model_version"] = str(timeline.model.get("model", "avel"))
        if timeline.events:
            result["score"] = round(sum(e.score for e in timeline) / len(timeline), 6)
    kind = "predictions" if made_by_model else "annotations"
    data: Json = {"video": timeline.video}
    data |= {"avel_notes": list(notes)} if (notes := notes_of(timeline.notes)) else {}
    return {"data": data, kind: [result]}


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


def _address(task: Json) -> str:
    """Where a task's media lie, without what Label Studio puts before an uploaded file's name."""
    data = object_of(task.get("data", task))
    address = name_of(next((data[k] for k in _MEDIA if isinstance(data.get(k), str)), ""))
    bare = media_name(address, "")
    uploaded = _without_upload_prefix(bare)
    return uploaded if uploaded != bare else address


def _is_task(task: Json) -> bool:
    """Whether it is a task of an export or import, or a row of the export ``JSON_MIN``."""
    return "data" in task or any(isinstance(task.get(k), str) for k in _MEDIA)


def _timeline(task: Json, video: str, where: str, skipped: SkippedRows) -> Timeline:
    regions, predicted = _regions(task, where, skipped)
    rate, lengths = _rate(task, where, skipped), [0.0]
    events: list[Event] = []
    framed = False
    for number, region in enumerate(regions, start=1):
        with skipped.row(f"{where}, region {number}"):
            events += _events(object_of(region), rate)
            framed = framed or "ranges" in object_of(region["value"])
            if region.get("original_length"):
                lengths.append(number_of(region["original_length"]))
    notes = [f"Frames were read as {rate:g} a second."] * framed
    task_notes = object_of(task.get("data", task)).get("avel_notes")
    notes += notes_of(task_notes) if isinstance(task_notes, list) else ()
    timeline = timeline_of(video, events, duration=max(lengths), notes=notes)
    return timeline if predicted is None else replace(timeline, model={"model": predicted})


def _rate(task: Json, where: str, skipped: SkippedRows) -> float:
    """Frames a second: ``data.fps``, which may be written as a text."""
    fps = object_of(task.get("data", task)).get("fps", FRAME_RATE)
    with suppress(ValueError):
        rate = float(fps) if isinstance(fps, str) else number_of(fps)
        if 0 < rate < 1e6:
            return rate
    skipped.note(f"{skipped.path.name}, {where}: fps is {str(fps)[:40]!r}, no rate above 0; "
              f"{FRAME_RATE:g} was taken.")  # fmt: skip
    return FRAME_RATE


def _without_upload_prefix(name: str) -> str:
    """``clip.mp4`` of ``1a2b3c4d-clip.mp4``, which Label Studio makes of an uploaded file."""
    head, dash, tail = name.partition("-")
    uploaded = dash and tail and len(head) == 8 and not set(head) - set("0123456789abcdef")
    return tail if uploaded else name


def _regions(task: Json, where: str, skipped: SkippedRows) -> tuple[list[Json], str | None]:
    """A task's regions of time, and the model's name where they are predictions."""
    if "data" not in task:
        return _least(task), None
    annotations = [object_of(a) for a in rows_of(task.get("annotations") or [])]
    valid = [a for a in annotations if not a.get("was_cancelled")]
    candidates = valid or [object_of(p) for p in rows_of(task.get("predictions") or [])]
    if not candidates:
        skipped.note(f"{skipped.path.name}, {where}: nobody has annotated it.")
        return [], None
    regions, result = [], rows_of(candidates[-1].get("result", []))
    skipped.read_count += not result
    for number, region in enumerate(map(object_of, result), start=1):
        kind, value = region.get("type"), region.get("value")
        if kind in ("labels", "timelinelabels"):
            regions.append(region)
        elif isinstance(value, dict) and any(k in _REGION or k.endswith("labels") for k in value):
            skipped.skip(
                f"{where}, region {number}", f"it is a {str(kind)[:40]}, no stretch of time"
            )
    return regions, None if valid else str(candidates[-1].get("model_version") or "a model")[:100]


def _least(task: Json) -> list[Json]:
    """The regions of a row of ``JSON_MIN``: their values alone, under their control's name."""
    values = [
        value
        for key, items in task.items()
        if key not in _MEDIA and isinstance(items, list)
        for value in items
        if isinstance(value, dict) and ("ranges" in value or {"start", "end"} <= value.keys())
    ]
    return [{"value": v, "original_length": v.get("original_length")} for v in values]


def _events(region: Json, rate: float) -> Iterator[Event]:
    value = object_of(region["value"])
    score, modality = region.get("score", 1.0), _modality(region)
    spans: list[tuple[Any, Any]] = []
    if "ranges" in value:  # frames count from 1, the last one included
        for span in map(object_of, rows_of(value["ranges"])):
            first, last = number_of(span["start"]), number_of(span["end"])
            spans.append((clock.from_ticks(first - 1, rate), clock.from_ticks(last, rate)))
    else:
        spans = [(value["start"], value["end"])]
    labels = rows_of(value.get("labels") or value.get("timelinelabels") or [])
    if not labels:
        raise ValueError(f"no label from {spans[0][0]} to {spans[0][1]} s" if spans else "no label")
    for start, end in spans:
        for label in labels:
            yield event_of(start, end, label, 1.0 if score is None else score, modality)


def _modality(region: Json) -> str:
    """The modality that a region's ``meta`` names; another value there isn't ours."""
    meta = region.get("meta")
    values = meta.get("modality") if isinstance(meta, dict) else None
    return (
        values[0] if isinstance(values, list) and values[:1] in (["audio"], ["visual"]) else "both"
    )
