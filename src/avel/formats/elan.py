"""ELAN's annotation documents (.eaf), read as they come: no tree of them is held in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape as in_xml
from xml.sax.saxutils import quoteattr

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    event_of,
    file_uri,
    formats,
    label_to_write,
    media_name,
    notes_of,
    stem_of,
    timeline_of,
)
from avel.formats.lanes import Lanes
from avel.formats.marks import KEY, NOTE, all_events, mark_of, with_mark
from avel.formats.text import escape, unescape
from avel.types import MODALITIES, Event, EventModality, Timeline

_MIMES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime",
          ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".webm": "video/webm",
          ".wav": "audio/x-wav", ".mp3": "audio/mpeg"}  # fmt: skip
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="avel" DATE="{date}" VERSION="2.8" FORMAT="2.8" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv2.8.xsd">
"""
_TAIL = """\
	<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true" \
GRAPHIC_REFERENCES="false"/>
	<CONSTRAINT STEREOTYPE="Time_Subdivision" DESCRIPTION="Time subdivision of parent annotation's \
time interval, no time gaps allowed within this interval"/>
	<CONSTRAINT STEREOTYPE="Symbolic_Subdivision" DESCRIPTION="Symbolic subdivision of a parent \
annotation. Annotations refering to the same parent are ordered"/>
	<CONSTRAINT STEREOTYPE="Symbolic_Association" DESCRIPTION="1-1 association with a parent \
annotation"/>
	<CONSTRAINT STEREOTYPE="Included_In" DESCRIPTION="Time alignable annotations within the parent \
annotation's time interval, gaps are allowed"/>
</ANNOTATION_DOCUMENT>
"""
_ANNOTATION = """\
		<ANNOTATION>
			<ALIGNABLE_ANNOTATION ANNOTATION_ID="a{n}" TIME_SLOT_REF1="ts{a}" \
TIME_SLOT_REF2="ts{b}">
				<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>
			</ALIGNABLE_ANNOTATION>
		</ANNOTATION>
"""


#: The tiers of what is of one modality; a second one where events overlap.
_LANES: dict[EventModality, str] = {"audio": "audio only", "visual": "visual only"}
_LANE = re.compile(r"(audio only|visual only)(?: \(\d+\))?")


@formats.register("elan")
class Elan(Format):
    """A tier a class, an annotation an event, the label its value; whole milliseconds.

    What is only audible or only visible has tiers of its own, whatever its class.
    """

    title = "ELAN"
    ending = ".eaf"
    reads = (".eaf",)
    lanes = True
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The document, with the video's place absolute and relative to where it will lie."""
        tiers: dict[str, list[tuple[int, Event]]] = {}
        for number, (tier, event) in enumerate(_tiers(timeline), start=1):
            tiers.setdefault(tier, []).append((number, event))
        numbered = [pair for tier_events in tiers.values() for pair in tier_events]
        parts = [_HEAD.format(date=datetime.now(UTC).isoformat(timespec="seconds"))]
        parts += [*_header(timeline, path), "\t<TIME_ORDER>\n"]
        for number, event in numbered:
            for slot, time in enumerate(clock.span_ticks(event.start, event.end), 2 * number - 1):
                parts.append(f'\t\t<TIME_SLOT TIME_SLOT_ID="ts{slot}" TIME_VALUE="{time}"/>\n')
        parts.append("\t</TIME_ORDER>\n")
        for tier, tier_events in tiers.items():
            name = quoteattr(tier)
            parts.append(f'\t<TIER TIER_ID={name} LINGUISTIC_TYPE_REF="default-lt">\n')
            for n, event in tier_events:
                value = in_xml(escape(event.label))
                parts.append(_ANNOTATION.format(n=n, a=2 * n - 1, b=2 * n, value=value))
            parts.append("\t</TIER>\n")
        return "".join([*parts, _TAIL])

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """All annotations with times of their own; those that refer to others are left out."""
        document = _parse(text)
        if document.units != "milliseconds":
            raise ValueError(f"times in {document.units}")
        address, media_clock = _media(document, stem_of(path), skipped)
        events = _events(document, media_clock, skipped)
        if document.referring:
            skipped.note(f"{document.referring} annotations that refer to others were left out.")
        if media_clock.zero and events:
            skipped.note(
                f"ELAN's times begin {-media_clock.zero:g} s into the file: they were moved by it."
            )
        video = media_name(address, stem_of(path))
        notes = [unescape(v) for k, v in document.properties.items() if k.startswith(NOTE)]
        timeline = timeline_of(video, events, notes=notes_of(notes)).choose("both")
        return [with_mark(timeline, document.properties.get(KEY, ""))]


def _tiers(timeline: Timeline) -> Iterator[tuple[str, Event]]:
    """Events with their tiers; where two of a class overlap, the later goes to a tier of its own.

    Annotations of one tier can't overlap in ELAN.
    """
    lanes: dict[str, Lanes] = {}
    events = [
        e for m in MODALITIES for e in sorted(timeline.lane(m), key=lambda e: (e.start, e.end))
    ]
    for event in events:
        name = escape(label_to_write(event))
        if event.modality != "both":
            name = _LANES[event.modality]
        elif _lane_of(name) != "both":  # a class of such a name isn't a lane
            name = f"\\x{ord(name[0]):02x}{name[1:]}"
        lane = lanes.setdefault(name, Lanes()).place(*clock.span_ticks(event.start, event.end))
        yield name if lane == 0 else f"{name} ({lane + 1})", event


def _lane_of(tier: str) -> EventModality:
    """The modality of a tier's annotations: ``audio only``, ``visual only (2)``."""
    match = _LANE.fullmatch(tier)
    return next((m for m, name in _LANES.items() if match and name == match[1]), "both")


def _header(timeline: Timeline, path: Path) -> Iterator[str]:
    yield '\t<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
    if timeline.video:
        video = Path(timeline.video).absolute()
        relative = Path(os.path.relpath(video, path.absolute().parent)).as_posix()
        relative = relative if relative.startswith(".") else f"./{relative}"
        mime = _MIMES.get(video.suffix.lower(), "unknown")
        yield (
            f"\t\t<MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(file_uri(timeline.video, path))} "
            f'RELATIVE_MEDIA_URL={quoteattr(escape(relative))} MIME_TYPE="{mime}"/>\n'
        )
    yield f'\t\t<PROPERTY NAME="lastUsedAnnotationId">{len(all_events(timeline))}</PROPERTY>\n'
    if timeline.predicted:
        mark = in_xml(mark_of(timeline, all_events(timeline)))
        yield f'\t\t<PROPERTY NAME="{KEY}">{mark}</PROPERTY>\n'
    for number, note in enumerate(notes_of(timeline.notes), start=1):
        yield f'\t\t<PROPERTY NAME="{NOTE} {number}">{in_xml(escape(note))}</PROPERTY>\n'
    yield "\t</HEADER>\n"


@dataclass(frozen=True)
class _Annotation:
    line: int
    begin: str
    end: str
    value: str


@dataclass
class _Document:
    """What of an annotation document is used."""

    units: str = "milliseconds"
    media: list[dict[str, str]] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    slots: dict[str, str | None] = field(default_factory=dict)
    tiers: list[tuple[str, list[_Annotation]]] = field(default_factory=list)
    referring: int = 0


def _parse(text: str) -> _Document:
    """Read a document element by element; anything that declares entities is refused."""
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    reader = _ElanReader(parser)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = _no_doctype
    parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    return reader.document


def _no_doctype(*_: Any) -> NoReturn:
    raise ValueError("a document type, which no document of ELAN's has")


class _ElanReader:
    """What expat tells of a document, put together."""

    def __init__(self, parser: Any) -> None:
        self.document, self._parser = _Document(), parser
        self._open: list[str] = []
        self._attributes: dict[str, str] = {}
        self._line, self._count = 0, 0
        self._text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != "ANNOTATION_DOCUMENT":
            raise ValueError("no ANNOTATION_DOCUMENT")
        self._open.append(name)
        document = self.document
        if name == "HEADER":
            document.units = attributes.get("TIME_UNITS", document.units)
        elif name == "MEDIA_DESCRIPTOR":
            document.media.append(attributes)
        elif name == "TIME_SLOT":
            document.slots[attributes.get("TIME_SLOT_ID", "")] = attributes.get("TIME_VALUE")
        elif name == "TIER":
            document.tiers.append((attributes.get("TIER_ID", ""), []))
        elif name == "REF_ANNOTATION":
            document.referring += 1
        elif name in ("ALIGNABLE_ANNOTATION", "PROPERTY"):
            self._attributes, self._line = attributes, self._parser.CurrentLineNumber
            self._text = [] if name == "PROPERTY" else None
        elif name == "ANNOTATION_VALUE":
            self._text = []

    def characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, name: str) -> None:
        self._open.pop()
        if name == "PROPERTY" and self._text is not None:
            self.document.properties[self._attributes.get("NAME", "")] = "".join(self._text)
        elif name == "ALIGNABLE_ANNOTATION" and self.document.tiers:
            self._count += 1
            check_count(self._count, "annotations")
            begin, end = (self._attributes.get(f"TIME_SLOT_REF{k}", "") for k in (1, 2))
            value = "".join(self._text or [])
            self.document.tiers[-1][1].append(_Annotation(self._line, begin, end, value))
        if name != "ANNOTATION_VALUE":
            self._text = None


def _media(document: _Document, default: str, skipped: SkippedRows) -> tuple[str, clock.Clock]:
    """Address and clock of the first linked file: its instant ``TIME_ORIGIN`` is ELAN's 0."""
    for media in document.media:
        whole, relative = media.get("MEDIA_URL", ""), media.get("RELATIVE_MEDIA_URL", "")
        for address in (whole if "://" in whole else "", unescape(relative), whole):
            if address:
                origin = _whole(media.get("TIME_ORIGIN") or "0")
                if origin is None:
                    skipped.note(
                        "The media's offset (TIME_ORIGIN) is no number: it was taken as 0."
                    )
                return address, clock.Clock(-clock.from_ticks(origin or 0))
    return default, clock.Clock()


def _whole(value: str | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _events(document: _Document, media_clock: clock.Clock, skipped: SkippedRows) -> list[Event]:
    events: list[Event] = []
    for tier, tier_annotations in document.tiers:
        between = _open_slot_times(document.slots, tier_annotations)
        for annotation in tier_annotations:
            with skipped.row(annotation.line):
                first, last = (
                    between[slot] if slot in between else _ticks(document, slot, tier)
                    for slot in (annotation.begin, annotation.end)
                )
                start, end = (media_clock.to_file(clock.from_ticks(t)) for t in (first, last))
                label = unescape(annotation.value.strip()) or unescape(tier)
                events.append(event_of(start, end, label, modality=_lane_of(tier)))
        if between:
            skipped.note("Times that the document leaves open are evenly spaced between their "
                      "neighbours, as ELAN shows them.")  # fmt: skip
    return events


def _ticks(document: _Document, slot: str, tier: str) -> int:
    value = document.slots[slot]
    if value is None:
        raise ValueError(f"an annotation of tier {tier[:40]!r} without times")
    return int(value)


def _open_slot_times(
    slots: Mapping[str, str | None], tier_annotations: Sequence[_Annotation]
) -> dict[str, float]:
    """The times of slots without one: evenly between those of their chain that have one.

    Annotations that divide another one of a tier share the slots between them, and ELAN leaves
    those in the middle open.
    """
    following = {a.begin: a.end for a in tier_annotations}
    times: dict[str, float] = {}
    visited: set[str] = set()  # slots without a time: each belongs to the first chain that has it
    for annotation in tier_annotations:
        first, chain = _whole(slots.get(annotation.begin)), [annotation.end]
        if first is None:
            continue
        while slots.get(chain[-1], "") is None and chain[-1] not in visited:
            visited.add(chain[-1])
            if chain[-1] not in following:
                break
            chain.append(following[chain[-1]])
        last = _whole(slots.get(chain[-1]))
        if last is not None:
            for i, slot in enumerate(chain[:-1], start=1):
                times[slot] = first + (last - first) * i / len(chain)
    return times
