"""Subtitles that players show: WebVTT and SubRip, as their writers and people write them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    event_of,
    formats,
    label_with_modality,
    lines_of,
    notes_of,
    split_label,
    stem_of,
    timeline_of,
)
from avel.formats.marks import KEY, NOTE, with_mark
from avel.types import Event, Timeline

# what would be taken for a tag or for the arrow between two times
_TAG = re.compile(r"<(?=[^>]*>)|(?<=--)>|\{(?=\\)")
#: The line of a cue's times, and the tags that are left out of its text: HTML's, and SubRip's
#: ``{\an8}``.
_TIMES = re.compile(r"\s*(\S+)\s*-->\s*(\S+)")
_MARKUP = {True: re.compile(r"<[^>]*>"), False: re.compile(r"<[^>]*>|\{\\[^{}]*\}")}
#: A score behind a label, and what would be read as one.
_SCORE = re.compile(r" \(score (0\.\d\d|1\.00)\)$")
#: Blocks of WebVTT that are no cues.
_BLOCKS = ("NOTE", "STYLE", "REGION")


@formats.register("vtt")
class WebVtt(Format):
    """WebVTT, the subtitles of browsers: a cue an event."""

    title = "Subtitles (WebVTT)"
    ending = ".vtt"
    reads = (".vtt",)
    player = True
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A cue an event, its text the label with ``&``, ``<`` and ``>`` as HTML writes them."""
        blocks = ["WEBVTT\n"]
        if timeline.predicted:
            blocks.append(f"NOTE {KEY} {html.escape(self.mark(timeline), quote=False)}\n")
        for note in notes_of(timeline.notes):
            blocks.append(f"NOTE {NOTE} {html.escape(note, quote=False)}\n")
        for event in timeline.for_player():
            start, end = _times(event)
            label = html.escape(_text(event, scores=self.with_scores), quote=False)
            blocks.append(f"{start} --> {end}\n{label}\n")
        return "\n".join(blocks)

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The cues as events; tags, settings, styles and notes are passed over."""
        if not text.lstrip().startswith("WEBVTT"):
            if "-->" not in text:
                raise ValueError("no WEBVTT in its first line, and no cue")
            skipped.note("The first line isn't WEBVTT: players won't show the file.")
        if re.search(r"^X-TIMESTAMP-MAP", text, re.M):
            skipped.note("X-TIMESTAMP-MAP wasn't applied: times are those of the cues.")
        notes = notes_of(map(html.unescape, re.findall(rf"^NOTE {NOTE} (.*)$", text, re.M)))
        timeline = timeline_of(stem_of(path), _events(text, skipped, web=True), notes=notes)
        mark = re.search(rf"^NOTE {KEY} (.*)$", text, re.M)
        return [with_mark(timeline, html.unescape(mark[1]) if mark else "")]


@formats.register("srt")
class SubRip(Format):
    """SubRip, the subtitles of players: a numbered cue an event."""

    title = "Subtitles (SubRip)"
    ending = ".srt"
    reads = (".srt",)
    player = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """A cue an event; what a reader would take for a tag or an arrow is coded."""
        blocks = []
        for number, event in enumerate(timeline.for_player(), start=1):
            start, end = (str(t).replace(".", ",") for t in _times(event))
            label = _TAG.sub(lambda m: f"\\x{ord(m[0]):02x}", _text(event, scores=self.with_scores))
            blocks.append(f"{number}\n{start} --> {end}\n{label}\n")
        return "\n".join(blocks)

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The cues as events, tags left out; cues may lack number, milliseconds and blank lines."""
        return [timeline_of(stem_of(path), _events(text, skipped, web=False))]


def _text(event: Event, *, scores: bool) -> str:
    """A cue's text: the label, the modality, and the score if it is requested."""
    text = label_with_modality(event)
    if (match := _SCORE.search(text)) is not None:  # it is part of the label itself
        text = f"{text[: match.start()]} \\x28{text[match.start() + 2 :]}"
    return f"{text} (score {event.score:.2f})" if scores else text


def _times(event: Event) -> tuple[str, str]:
    first, last = clock.span_ticks(event.start, event.end)
    return clock.format_time(clock.from_ticks(first)), clock.format_time(clock.from_ticks(last))


class _Cue(NamedTuple):
    """A cue as it stands in its file: the line of its times, those, and the lines below them."""

    line: int
    times: str
    text: list[str]


def _cues(lines: list[str], skipped: SkippedRows, *, web: bool) -> Iterator[_Cue]:
    """The cues of a file: a line with an arrow, and what follows to a blank line or the next cue.

    What stands elsewhere and isn't a cue's number or name is left out.
    """
    arrows = [i for i, line in enumerate(lines) if "-->" in line]
    check_count(len(arrows), "cues")
    starts = {i: i - 1 if _is_name(lines, i - 1, web=web) else i for i in arrows}
    at = 0
    for number, i in enumerate(arrows):
        _skip_stray_text(lines, at, starts[i], skipped, web=web)
        end = starts[arrows[number + 1]] if number + 1 < len(arrows) else len(lines)
        at = next((k for k in range(i + 1, end) if not lines[k].strip()), end)
        yield _Cue(i + 1, lines[i], lines[i + 1 : at])
    _skip_stray_text(lines, at, len(lines), skipped, web=web)


def _is_name(lines: list[str], i: int, *, web: bool) -> bool:
    """Whether the line above a cue's times is its number or name, and not the last cue's text."""
    if i < 0 or not lines[i].strip() or "-->" in lines[i]:
        return False
    alone = i == 0 or not lines[i - 1].strip()
    return (alone and web) or lines[i].strip().isdecimal()


def _skip_stray_text(
    lines: list[str], first: int, end: int, skipped: SkippedRows, *, web: bool
) -> None:
    """Say which text between two cues belongs to none, block by block."""
    i = first
    while i < end:
        stop = next((k for k in range(i, end) if not lines[k].strip()), end)
        if stop > i:
            words = lines[i].split(None, 1)[0]
            known = web and (words in _BLOCKS or words.startswith("WEBVTT"))
            number = all(line.strip().isdecimal() for line in lines[i:stop])
            if not known and not number:
                skipped.skip(i + 1, f"{lines[i].strip()[:40]!r} belongs to no cue")
        i = stop + 1


def _events(text: str, skipped: SkippedRows, *, web: bool) -> list[Event]:
    """The events of the cues; each that can't be read is left out by its line."""
    events = []
    for cue in _cues(lines_of(text), skipped, web=web):
        with skipped.row(cue.line):
            times = _TIMES.match(cue.times)
            if not times:
                raise ValueError(f"{cue.times.strip()[:40]!r} isn't START --> END")
            start, end = map(clock.parse_time, times.groups())
            words = _MARKUP[web].sub("", " ".join(line.strip() for line in cue.text)).strip()
            if not words:
                raise ValueError("a cue without text")
            words = html.unescape(words) if web else words
            score = _SCORE.search(words)
            label, modality = split_label(words[: score.start()] if score else words)
            events.append(event_of(start, end, label, float(score[1]) if score else 1.0, modality))
    if not events and not skipped.count and text.strip() and not web:
        raise ValueError("no cue")
    return events
