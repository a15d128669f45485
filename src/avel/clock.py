"""Seconds, segments, frames and samples: the only file with time arithmetic.

Time starts at 0.0 at the first instant of a file, whatever the container's own clock shows there.
A browser's player has its own clock, which may show a later time at that instant
(:func:`player_start`). Players and subtitles use the player's clock, all else the file's.

Segment ``i`` of a grid with step ``s`` covers
``[i*s, (i+1)*s)`` seconds; the last one ends with the file. Ends are exclusive everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

#: A tail shorter than this share of a step is codec padding (AAC rounds up to whole frames), not a
#: segment, unless the file holds nothing else.
TAIL = 0.1
_EPS = 1e-6


@dataclass(frozen=True)
class Clock:
    """Another clock on which times of a file are given; avel's clock is 0.0 where the file begins.

    Such clocks are an editor's timecode, Raven's count over a sequence of files, and ELAN's over
    media that begin at an offset.

    Args:
        zero: What it shows at the file's first instant, seconds.
    """

    zero: float = 0.0

    def to_file(self, shown: float) -> float:
        """Seconds from the file's start, to a millionth, of what this clock shows."""
        return round(shown - self.zero, 6) if self.zero else shown

    def from_file(self, seconds: float) -> float:
        """What this clock shows so many seconds after the file's start."""
        return seconds + self.zero


_TIMECODE = re.compile(r"(\d{1,4}):(\d{1,2}):(\d{1,2})([:;.,])(\d{1,3})", re.ASCII)


def timecode_clock(text: str, fps: float) -> Clock:
    """The clock of a file that begins at a timecode ``hours:minutes:seconds:frames``.

    A semicolon before the frames says that it drops numbers (two a minute at 30 frames a second,
    but for every tenth minute), so that it keeps pace with the seconds at 29.97.

    Args:
        text: The file's first timecode.
        fps: Its frames a second, above 0.

    Raises:
        ValueError: if the text is no timecode.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if not match or fps <= 0:
        raise ValueError(f"{text[:40]!r} is no timecode: expected hours:minutes:seconds:frames")
    hours, minutes, seconds, _, last = match.groups()
    counted = int(hours) * 60 + int(minutes)
    frames = (counted * 60 + int(seconds)) * round(fps) + int(last)
    if drops(text):
        frames -= _dropped(fps) * (counted - counted // 10)
    return Clock(frames / fps)


def drops(timecode: str) -> bool:
    """Whether a timecode drops numbers: its last mark isn't a colon."""
    match = _TIMECODE.fullmatch(timecode.strip())
    return match is not None and match[4] != ":"


def _dropped(fps: float) -> int:
    """How many numbers a minute drops, but for every tenth: 2 at 30 frames a second, 4 at 60."""
    return round(round(fps) / 15)


def format_timecode(frame: int, fps: float, *, drop: bool = False) -> str:
    """The timecode of a frame; what :func:`timecode_clock` reads.

    Args:
        frame: Counted from 00:00:00:00.
        fps: Frames a second, above 0.
        drop: Whether numbers are dropped, with a semicolon before the frames.
    """
    base = max(1, round(fps))
    if drop:
        apart, left = divmod(frame, 600 * base - 9 * _dropped(fps))
        minute = 60 * base - _dropped(fps)
        frame += _dropped(fps) * (9 * apart + max(0, left - _dropped(fps)) // minute)
    seconds, last = divmod(frame, base)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if drop else ':'}{last:02d}"


def segment_count(duration: float, step: float = 1.0) -> int:
    """How many segments a file of ``duration`` seconds has: at least 1 where it has any time.

    Raises:
        ValueError: if the duration is negative or not finite, or the step isn't positive.
    """
    if not math.isfinite(duration) or duration < 0:
        raise ValueError(f"duration {duration} s: expected a finite number of seconds >= 0")
    if not math.isfinite(step) or step <= 0:
        raise ValueError(f"step {step} s: expected a finite number of seconds > 0")
    if duration <= _EPS:
        return 0
    whole = math.floor(duration / step + _EPS)
    rest = duration - whole * step
    return max(1, whole + (rest >= TAIL * step - _EPS))


def segment_bounds(index: int, step: float, duration: float) -> tuple[float, float]:
    """Start and end of a segment in seconds; the last one ends no later than the file does."""
    return index * step, min((index + 1) * step, max(duration, index * step))


def segment_at(seconds: float, step: float = 1.0) -> int:
    """The segment that holds an instant (an edge belongs to the segment it starts)."""
    return math.floor(seconds / step + _EPS)


def segments_to_seconds(count: float, step: float = 1.0) -> float:
    """How long a number of segments lasts, whole or not (a mean of them, say)."""
    return count * step


def frame_times(index: int, count: int, step: float = 1.0) -> list[float]:
    """``count`` evenly spaced instants of a segment, the first at its start.

    The published AVE features take frame ``int(l*interval + i/16*interval)`` for second ``l``,
    which in time is ``l + i/16``.
    """
    return [index * step + k * step / count for k in range(count)]


def frame_instants(start: float, end: float, fps: float) -> Iterator[float]:
    """The instants from ``start`` to before ``end``, ``fps`` a second; at least one."""
    for k in range(max(1, round((end - start) * fps))):
        yield start + k / fps


def sample_index(seconds: float, rate: int) -> int:
    """The sample nearest to an instant."""
    return round(seconds * rate)


def sample_bounds(index: int, step: float, rate: int) -> tuple[int, int]:
    """First and one-past-last sample of a segment; neighbours meet without gap or overlap."""
    return sample_index(index * step, rate), sample_index((index + 1) * step, rate)


def windows(count: int, length: int, hop: int) -> list[int]:
    """Starts of windows that cover ``count`` segments, the last flush with the end.

    A file shorter than a window gives one window of the file's length.
    """
    if min(count, length, hop) < 1:
        raise ValueError(f"count {count}, length {length}, hop {hop}: expected all >= 1")
    if count <= length:
        return [0]
    starts = list(range(0, count - length, hop))
    return [*starts, count - length]


def event_labels(start: float, end: float, count: int, step: float = 1.0) -> list[bool]:
    """Which segments an event covers by AVE's rule: those it fills at least half of.

    Whole-second annotations give exactly the seconds in ``[start, end)``.
    """
    covered = (_overlap(i * step, (i + 1) * step, start, end) for i in range(count))
    return [share >= step / 2 - _EPS for share in covered]


def _overlap(a0: float, a1: float, b0: float, b1: float) -> float:
    return max(0.0, min(a1, b1) - max(a0, b0))


def segments_of(start: float, end: float, count: int, step: float = 1.0) -> tuple[int, int]:
    """First and one past the last of the segments that an excerpt of a file covers.

    By AVE's rule; an excerpt that fills half of no segment gets the segment at its middle.

    Args:
        start, end: Seconds, ``start < end``, within the file.
        count: Segments of the file.
        step: Seconds a segment.
    """
    covered = event_labels(start, end, count, step)
    if not any(covered):
        index = min(max(segment_at(middle(start, end), step), 0), count - 1)
        return index, index + 1
    return covered.index(True), count - covered[::-1].index(True)


#: Containers, by FFmpeg's names, whose start a browser keeps.
_KEEP_START = frozenset({"mov", "mp4", "m4a", "matroska", "webm", "ogg"})


def player_start(container: str, start: float) -> float:
    """What a browser's player calls the first instant of a file, in seconds.

    Chromium shows the first picture of an .mp4, .mov, .mkv, .webm or .ogg at the time it bears in
    the file: of one that starts late, after nothing. A start before 0 is moved there. The clocks of
    others (MPEG streams) begin anywhere, and whatever plays them calls that 0.

    Args:
        container: FFmpeg's name of the format, ``"matroska,webm"`` say.
        start: The first instant on the container's own clock, seconds.
    """
    return max(0.0, start) if _KEEP_START & set(container.split(",")) else 0.0


def lasts(start: float, end: float, least: float) -> bool:
    """Whether an interval is at least ``least`` seconds long, rounding of its edges forgiven."""
    return end - start >= least - _EPS


def middle(start: float, end: float) -> float:
    """The instant halfway between two others."""
    return start + (end - start) / 2


def widened(start: float, end: float, by: float, duration: float) -> tuple[float, float]:
    """An excerpt of a file with ``by`` more seconds on either side, within the file."""
    return max(0.0, start - by), max(end, min(duration, end + by))


def share(seconds: float, duration: float) -> float:
    """How far into a file an instant lies, from 0 to 1; 0 where the file has no length."""
    return min(max(seconds / duration, 0.0), 1.0) if duration > 0 else 0.0


def runs(ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Maximal runs of equal ids as (first index, one past the last, id)."""
    first = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or ids[i] != ids[first]:
            yield first, i, ids[first]
            first = i


def format_time(seconds: float, *, decimals: int = 3, hours: bool = True) -> str:
    """``3725.5`` as ``01:02:05.500``; with ``hours=False`` as ``62:05.500``."""
    scale = 10**decimals
    ticks = round(max(0.0, seconds) * scale)
    whole, part = divmod(ticks, scale)
    minutes, secs = divmod(whole, 60)
    tail = f":{secs:02d}" + (f".{part:0{decimals}d}" if decimals else "")
    if not hours:
        return f"{minutes:02d}{tail}"
    return f"{minutes // 60:02d}:{minutes % 60:02d}{tail}"


#: What :func:`time_text` writes for any number of seconds, and what people and tools write: seconds
#: in decimal or with an exponent, or ``[hours:]minutes:seconds``; a comma may stand for the point.
_SECONDS = re.compile(r"\d{1,400}(?:[.,]\d{0,1100})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,6}):(\d{1,9}(?:[.,]\d{1,30})?)", re.ASCII)


def time_text(seconds: float) -> str:
    """The shortest decimal that :func:`parse_time` reads as the very same number.

    Never with an exponent, which many readers of tables take for text: ``0.00001``, ``8.25``.

    Args:
        seconds: Finite, at least 0.
    """
    text = repr(float(seconds))
    return f"{Decimal(text):f}" if "e" in text else text


def parse_time(text: str) -> float:
    """Seconds from ``62.5``, ``1:02.5`` or ``0:01:02.5`` (a comma may stand for the point).

    Every number that :func:`time_text` or ``repr`` writes comes back bit for bit.

    Raises:
        ValueError: if the text is no time.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text) and math.isfinite(number := float(text.replace(",", "."))):
        return number
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is no time: expected seconds or [hours:]minutes:seconds")
    hours, minutes, secs = match.groups()
    whole = int(hours or 0) * 3600 + int(minutes) * 60
    return float(whole + Decimal(secs.replace(",", ".")))


def parse_span(text: str) -> tuple[float, float]:
    """Start and end in seconds from ``3-5``, ``1:02.5-1:04`` or ``90-`` (to the end of the file).

    Raises:
        ValueError: if the text is no span of time, or ends no later than it starts.
    """
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"{text[:40]!r} is no span of time: expected START-END")
    start, end = parse_time(first), parse_time(last) if last.strip() else math.inf
    if not start < end:
        raise ValueError(f"{text[:40]!r} ends before it starts: expected START-END")
    return start, end


def ticks(seconds: float, per_second: float = 1000) -> int:
    """The whole tick nearest to an instant: milliseconds by default."""
    return round(seconds * per_second)


def span_ticks(start: float, end: float, per_second: float = 1000) -> tuple[int, int]:
    """Start and end in whole ticks, at least one tick apart: no event vanishes by rounding."""
    first = ticks(start, per_second)
    return first, max(ticks(end, per_second), first + 1)


def from_ticks(count: float, per_second: float = 1000) -> float:
    """Seconds of a number of ticks: milliseconds, or frames at so many a second."""
    return count / per_second
