"""Edit decision lists in the form of CMX 3600: every event as an edit, one after the other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from avel import clock
from avel.formats.base import (
    Format,
    SkippedRows,
    check_count,
    event_of,
    formats,
    label_with_modality,
    lines_of,
    media_name,
    names_apart,
    notes_of,
    split_label,
    stem_of,
    timeline_of,
)
from avel.formats.frames import RATE, FrameClock, frame_clock
from avel.formats.marks import KEY, mark_of, with_mark
from avel.formats.text import escape, unescape
from avel.types import Event, Timeline

_TIMECODE = r"(\d{1,4}:\d{1,2}:\d{1,2}[:;.,]\d{1,3})"
#: An edit: number, reel, tracks, transition, then the source's and the list's in and out.
_EDIT = re.compile(
    r"\s*\d+\s+(\S+)\s+\S+\s+\S+(?:\s+\d+)?" + rf"\s+{_TIMECODE}" * 4 + r"\s*", re.ASCII
)
#: Our own comment on how times are counted, which the form has no place for.
_COUNT = re.compile(rf"\* AVEL FRAMES: (\d+(?:\.\d+)?) FROM {_TIMECODE}", re.ASCII)
_CLIP, _LABEL, _SCORE, _MARK = "* FROM CLIP NAME:", "* COMMENT:", "* AVEL SCORE:", f"* {KEY}"
_NOTE = "* AVEL NOTE:"
#: Comments of editors that hold a marker's name; Avid's begins with a timecode and a colour.
_LOCATOR = re.compile(r"\*\s*LOC:\s*\S+\s+\S+\s+(.*)", re.I)
_RESOLVE = re.compile(r"\|M:(.*?)\s*(?:\|D:.*)?$")


@formats.register("edl")
class Edl(Format):
    """A cut list: the events as edits of picture and sound, in order, without gaps."""

    title = "EDL, CMX 3600 (video editors)"
    ending = ".edl"
    reads = (".edl",)
    stores_mark = True

    def dump(self, timeline: Timeline, path: Path) -> str:
        """The edits at the video's own frame rate and timecode, where the video can be read."""
        count = frame_clock(timeline.video)
        zero = clock.ticks(count.clock.zero, count.rate)
        clip = escape(media_name(timeline.video, timeline.video))
        fcm = "DROP FRAME" if count.drop else "NON-DROP FRAME"
        start = clock.format_timecode(zero, count.rate, drop=count.drop)
        lines = [f"TITLE: {escape(Path(timeline.video).stem)}", f"FCM: {fcm}"]
        ours = [f"* AVEL FRAMES: {count.rate!r} FROM {start}"]
        ours += [f"{_MARK} {self.mark(timeline)}"] if timeline.predicted else []
        ours += [f"{_NOTE} {escape(note)}" for note in notes_of(timeline.notes)]
        done = 0
        for number, event in enumerate(timeline, start=1):
            first, last = clock.span_ticks(event.start, event.end, count.rate)
            edges = (zero + first, zero + last, done, done + last - first)
            times = (clock.format_timecode(n, count.rate, drop=count.drop) for n in edges)
            done += last - first
            lines += [
                "", f"{number:03d}  AX       AA/V  C        {' '.join(times)}", f"{_CLIP} {clip}",
                f"{_LABEL} {label_with_modality(event)}",
                f"{_SCORE} {round(float(event.score), 6):g}",
            ]  # fmt: skip
        # behind the edits: before the first one some readers know no comments
        return "\n".join([*lines, *ours]) + "\n"

    def mark(self, timeline: Timeline) -> str:
        """The mark of the events with the times of whole frames, as they are read again."""
        count = frame_clock(timeline.video)
        return mark_of(timeline, [_in_frames(e, count) for e in timeline])

    def load(self, text: str, path: Path, skipped: SkippedRows) -> list[Timeline]:
        """The edits that a comment names; a timeline a clip."""
        lines = lines_of(text)
        edits = [i for i, line in enumerate(lines) if _EDIT.fullmatch(line)]
        check_count(len(edits), "edits")
        known = re.search(rf"^{_COUNT.pattern}\s*$", text, re.M)
        if not edits and not known and not text.lstrip().startswith("TITLE:"):
            raise ValueError("no TITLE and no edit")
        count = _count(known, skipped) if edits else FrameClock()
        events: list[tuple[str, Event]] = []
        for i, stop in zip(edits, [*edits, len(lines)][1:], strict=True):
            with skipped.row(i + 1):
                events.append(_event(lines[i:stop], count))
        names = names_apart((clip for clip, _ in events), stem_of(path))
        by_clip: dict[str, list[Event]] = {}
        for clip, event in events:
            by_clip.setdefault(names[clip], []).append(event)
        mark = re.search(rf"^{re.escape(_MARK)} (.*)$", text, re.M)
        texts = re.findall(rf"^{re.escape(_NOTE)} (.*)$", text, re.M) if len(by_clip) < 2 else []
        notes = notes_of(map(unescape, texts))
        return [
            with_mark(
                timeline_of(name, clip_events, notes=notes),
                mark[1] if mark and len(by_clip) < 2 else "",
            )
            for name, clip_events in (by_clip or {stem_of(path): []}).items()
        ]


def _in_frames(event: Event, count: FrameClock) -> Event:
    """An event with the times that its file stores."""
    first, last = clock.span_ticks(event.start, event.end, count.rate)
    zero = clock.ticks(count.clock.zero, count.rate)
    start, end = (
        _seconds(clock.format_timecode(zero + n, count.rate, drop=count.drop), count)
        for n in (first, last)
    )
    return replace(event, start=start, end=end)


def _count(known: re.Match[str] | None, skipped: SkippedRows) -> FrameClock:
    """How a file's times are counted: as our comment says, else at 25 frames a second from 0."""
    if known is None:
        skipped.note(f"Times were taken as {RATE:g} frames a second from 00:00:00:00.")
        return FrameClock()
    rate = float(known[1])
    if not 1 <= rate <= 1000:
        raise ValueError(f"{known[1]} frames a second: expected 1 to 1000")
    return FrameClock(rate, clock.timecode_clock(known[2], rate), clock.drops(known[2]))


def _seconds(timecode: str, count: FrameClock) -> float:
    shown = clock.timecode_clock(timecode, count.rate).zero
    return round(count.clock.to_file(shown), 6)


def _event(lines: list[str], count: FrameClock) -> tuple[str, Event]:
    """The clip's name and the event of an edit, given its line and the comments below it."""
    edit = _EDIT.fullmatch(lines[0])
    assert edit is not None
    comments = {
        key: line[len(key) :].strip()
        for line in reversed(lines[1:])
        for key in (_CLIP, _LABEL, _SCORE)
        if line.startswith(key)
    }
    label = comments.get(_LABEL) or _marker_name(lines[1:])
    if not label:
        raise ValueError("no comment names this edit")
    name, modality = split_label(label)
    start, end = (_seconds(t, count) for t in edit.groups()[1:3])
    event = event_of(start, end, name, float(comments.get(_SCORE, "1")), modality)
    return unescape(comments.get(_CLIP, "")), event


def _marker_name(lines: list[str]) -> str:
    """The first name of a marker in some comments, or ``""``."""
    for line in lines:
        match = _LOCATOR.match(line) or _RESOLVE.search(line)
        if match:
            return match[1].strip()
    return ""
