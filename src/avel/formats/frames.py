"""Times of a video counted in frames, as editors show them: its rate and its timecode."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from avel import clock
from avel.files import file_exists

#: Frames a second that times are counted in where the video's own rate isn't known.
RATE = 25.0


@dataclass(frozen=True)
class FrameClock:
    """How an editor counts a video's times.

    Args:
        rate: Frames a second, above 0.
        clock: That of the timecode; it begins at 0 where the video has none.
        drop: Whether the timecode drops numbers.
    """

    rate: float = RATE
    clock: clock.Clock = field(default_factory=clock.Clock)
    drop: bool = False


def frame_clock(video: str) -> FrameClock:
    """The count of a video; ``RATE`` where it can't be read or has no picture."""
    if not file_exists(video):
        return FrameClock()
    from avel.errors import AvelError
    from avel.media.file import open_media

    try:
        track = open_media(video).video
    except AvelError:
        return FrameClock()
    rate = float(track.fps) if track is not None else 0.0
    rate = rate or RATE
    timecode = _timecode(Path(video))
    try:
        return FrameClock(rate, clock.timecode_clock(timecode, rate), clock.drops(timecode))
    except ValueError:
        return FrameClock(rate)


def _timecode(video: Path) -> str:
    """The first timecode that a file's metadata name, or ``""``."""
    import av.error

    from avel.media.decode import open_container

    try:
        with open_container(video) as container:
            metadata = [container.metadata, *(s.metadata for s in container.streams)]
    except (av.error.FFmpegError, OSError):
        return ""
    return next((str(m["timecode"]) for m in metadata if m.get("timecode")), "")
