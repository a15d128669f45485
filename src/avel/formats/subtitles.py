"""Subtitles that players show: WebVTT and SubRip, by way of ``webvtt-py``."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from avel import clock
from avel.formats.base import (
    MAX_ROWS,
    Format,
    event_of,
    formats,
    marked_label,
    timeline_of,
    unmarked,
)
from avel.types import Event, Timeline

# what would be taken for a tag or for the arrow between two times
_TAG = re.compile(r"<(?=[^>]*>)|(?<=--)>")
_LINE_ENDS = re.compile(r"\r\n|\r")


@formats.register("vtt")
class WebVtt(Format):
    """WebVTT, the subtitles of browsers: a cue an event."""

    ending = ".vtt"
    reads = (".vtt",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A cue an event, its text the label with ``&``, ``<`` and ``>`` as HTML writes them."""
        from webvtt import WebVTT

        cues = [_cue(e, html.escape(marked_label(e), quote=False)) for e in timeline]
        return WebVTT(captions=cues).content + "\n"

    def load(self, text: str, path: Path) -> list[Timeline]:
        """The cues as events; tags, settings, styles and notes are left out."""
        from webvtt import WebVTT

        cues = WebVTT.from_string(_whole(text)).captions
        return [timeline_of(path.stem, _events(cues, text, web=True))]


@formats.register("srt")
class SubRip(Format):
    """SubRip, the subtitles of players: a numbered cue an event."""

    ending = ".srt"
    reads = (".srt",)

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A cue an event; what a reader would take for a tag or an arrow is coded."""
        blocks = []
        for number, event in enumerate(timeline, start=1):
            start, end = (str(t).replace(".", ",") for t in _times(event))
            label = _TAG.sub(_coded, marked_label(event))
            blocks.append(f"{number}\n{start} --> {end}\n{label}\n")
        return "\n".join(blocks)

    def load(self, text: str, path: Path) -> list[Timeline]:
        """The cues as events, tags left out."""
        from webvtt import srt

        lines = _whole(text).strip("\n").split("\n")
        cues = srt.parse(lines) if lines != [""] else []
        return [timeline_of(path.stem, _events(cues, text, web=False))]


def _coded(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02x}"


def _times(event: Event) -> tuple[str, str]:
    first, last = clock.span_ticks(event.start, event.end)
    return clock.format_time(clock.from_ticks(first)), clock.format_time(clock.from_ticks(last))


def _cue(event: Event, text: str) -> Any:
    from webvtt import Caption

    return Caption(*_times(event), text)


def _whole(text: str) -> str:
    return _LINE_ENDS.sub("\n", text)


def _events(cues: Any, text: str, *, web: bool) -> list[Event]:
    """The events of cues; one that the parser passed over is an error, not a silence."""
    arrows = sum("-->" in line for line in _whole(text).split("\n"))
    if len(cues) != arrows:
        raise ValueError(f"{arrows - len(cues)} of {arrows} cues can't be read")
    if arrows > MAX_ROWS:
        raise ValueError(f"more than {MAX_ROWS} cues")
    events = []
    for cue in cues:
        start, end = (clock.from_ticks(t.in_milliseconds()) for t in (cue.start_time, cue.end_time))
        words = " ".join(cue.text.split("\n")).strip()
        label, modality = unmarked(html.unescape(words) if web else words)
        events.append(event_of(start, end, label, modality=modality))
    return sorted(events, key=lambda e: (e.start, e.end))
