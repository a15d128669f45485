"""ELAN's annotation documents (.eaf), by way of ``pympi``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avel import clock
from avel.formats.base import (
    MAX_ROWS,
    Format,
    event_of,
    formats,
    label_to_write,
    media_name,
    timeline_of,
)
from avel.formats.text import escape, unescape
from avel.types import MODALITIES, Event, Modality, Timeline

#: The most characters of XML that are read: a tree of them takes some twenty times the memory.
_LARGEST = 2**25
_MIMES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime",
          ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".webm": "video/webm",
          ".wav": "audio/x-wav", ".mp3": "audio/mpeg"}  # fmt: skip


#: The tiers of what is of one modality; a second one where events overlap.
_LANES: dict[Modality, str] = {"audio": "audio only", "visual": "visual only"}
_LANE = re.compile(r"(audio only|visual only)(?: \(\d+\))?")


@formats.register("elan")
class Elan(Format):
    """A tier a class, an annotation an event, the label its value; whole milliseconds.

    What is only audible or only visible has tiers of its own, whatever its class.
    """

    ending = ".eaf"
    reads = (".eaf",)
    lanes = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The document, with the video's place absolute and relative to where it will lie."""
        from pympi.Elan import Eaf, to_string

        document = Eaf(author="avel")
        document.adocument["DATE"] = datetime.now(UTC).isoformat(timespec="seconds")
        count = sum(len(timeline.lane(m)) for m in MODALITIES)
        document.properties = [("lastUsedAnnotationId", count)]
        document.remove_tier("default")
        for tier, event in _tiers(timeline):
            if tier not in document.tiers:
                document.add_tier(tier)
            first, last = clock.span_ticks(event.start, event.end)
            document.add_annotation(tier, first, last, escape(event.label))
        _link(document, timeline.video, path)
        text: str = to_string(document)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'

    def load(self, text: str, path: Path) -> list[Timeline]:
        """All annotations with times of their own; those that refer to others are left out."""
        from defusedxml.ElementTree import fromstring
        from pympi.Elan import Eaf

        if len(text) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} characters")
        if fromstring(text, forbid_dtd=True).tag != "ANNOTATION_DOCUMENT":
            raise ValueError("no ANNOTATION_DOCUMENT")
        document = Eaf(path.absolute(), suppress_version_warning=True)
        if document.header.get("TIME_UNITS", "milliseconds") != "milliseconds":
            raise ValueError(f"times in {document.header['TIME_UNITS']}")
        events = list(_annotations(document))
        referring = sum(len(tier[1]) for tier in document.tiers.values())
        notes = [f"{referring} annotations that refer to others were left out."] * bool(referring)
        video = _linked(document, path)
        events.sort(key=lambda e: (e.start, e.end))
        return [timeline_of(video, events, notes=notes).choose("both")]


def _tiers(timeline: Timeline) -> Iterator[tuple[str, Event]]:
    """Events with their tiers; where two of a class overlap, the later goes to a tier of its own.

    Annotations of one tier can't overlap in ELAN.
    """
    ends: dict[str, list[int]] = {}
    held = [e for m in MODALITIES for e in sorted(timeline.lane(m), key=lambda e: (e.start, e.end))]
    for event in held:
        name = escape(label_to_write(event))
        if event.modality != "both":
            name = _LANES[event.modality]
        elif _lane_of(name) != "both":  # a class of such a name isn't a lane
            name = f"\\x{ord(name[0]):02x}{name[1:]}"
        first, last = clock.span_ticks(event.start, event.end)
        taken = ends.setdefault(name, [])
        place = next((i for i, end in enumerate(taken) if end <= first), len(taken))
        taken[place : place + 1] = [last]
        yield name if place == 0 else f"{name} ({place + 1})", event


def _lane_of(tier: str) -> Modality:
    """The modality of a tier's annotations: ``audio only``, ``visual only (2)``."""
    found = _LANE.fullmatch(tier)
    return next((m for m, name in _LANES.items() if found and name == found[1]), "both")


def _link(document: Any, video: str, path: Path) -> None:
    if not video:
        return
    place = Path(video).absolute()
    relative = Path(os.path.relpath(place, path.absolute().parent)).as_posix()
    relative = relative if relative.startswith(".") else f"./{relative}"
    mime = _MIMES.get(place.suffix.lower(), "unknown")
    document.add_linked_file(place.as_uri(), escape(relative), mime)


def _linked(document: Any, path: Path) -> str:
    for media in document.media_descriptors:
        for address in (media.get("RELATIVE_MEDIA_URL"), media.get("MEDIA_URL")):
            if address:
                return media_name(unescape(address), path.stem)
    return path.stem


def _annotations(document: Any) -> Iterator[Event]:
    count = 0
    for tier, (aligned, *_) in document.tiers.items():
        for begin, end, value, _ in aligned.values():
            count += 1
            if count > MAX_ROWS:
                raise ValueError(f"more than {MAX_ROWS} annotations")
            times = document.timeslots[begin], document.timeslots[end]
            if None in times:
                raise ValueError(f"an annotation of tier {tier[:40]!r} without times")
            start, stop = (clock.from_ticks(t) for t in times)
            label = unescape((value or "").strip()) or unescape(tier)
            yield event_of(start, stop, label, modality=_lane_of(tier))
