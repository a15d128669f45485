"""A copy of the video with its events drawn in: labels, a small timeline, attention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avel.errors import MediaError, UsageError
from avel.report import cards
from avel.report.overlay import Overlay
from avel.report.writers import Writer, writers
from avel.types import Timeline

if TYPE_CHECKING:
    from avel.media.file import Media

#: Start of the comment by which avel recognizes its own copies; older copies have the same.
MARK = "avel: events burned in"


@writers.register(".mp4")
class VideoWriter(Writer):
    """A copy of the video that shows its events; it never replaces another video."""

    title = "Video with the events drawn in"

    def check(self, video: str, path: Path) -> Media:
        """Refuse a video without pictures, and a path where another video is.

        Raises:
            MediaError: if the video doesn't exist, can't be read, or has no picture.
            UsageError: if ``path`` is the video itself, or a file that isn't such a copy.
        """
        return readable(video, path)

    def write(self, timeline: Timeline, path: Path) -> None:
        """Write the copy, whole or not at all; errors as for :meth:`check`."""
        from avel.media.annotated_copy import write_copy
        from avel.media.excerpt import frame_size

        media = readable(timeline.video, path, timeline)
        size = frame_size(media)
        corrected = "events corrected by a person" if timeline.corrected else ""
        parts = [MARK, corrected, cards.name(timeline.model), *cards.cautions(timeline.model)]
        comment = "; ".join(filter(None, parts))
        write_copy(media, path, size=size, draw=Overlay(timeline, size), comment=comment)


def readable(video: str, path: Path, timeline: Timeline | None = None) -> Media:
    """The probed video, if a copy of it may be written to ``path``; errors as above.

    Args:
        video: The video.
        path: Where the copy will be written.
        timeline: That of the video, which may have the probed file.
    """
    from avel.media.file import media_of, open_media

    source = Path(video)
    if not source.exists():
        raise MediaError(
            f"the video {video} doesn't exist, so nothing can be drawn on it",
            hint="give its path: avel convert LABELS -o COPY.mp4 --video FILE",
        )
    if path.exists() and path.samefile(source):
        raise UsageError(f"{path} is the video itself", expected="another name for the copy")
    if path.exists() and not is_copy(path):
        raise UsageError(
            f"{path} exists, and isn't a copy that avel has written",
            expected="a new name, or an earlier copy",
            hint="choose another name, or delete it first",
        )
    media = open_media(source) if timeline is None else media_of(timeline)
    if media.video is None:
        raise MediaError(
            f"{video} has no picture to draw on",
            expected="a video",
            hint="leave the .mp4 out, or write .html or .vtt",
        )
    return media


def is_copy(path: Path) -> bool:
    """Whether a file is one that :class:`VideoWriter` has written."""
    import av.error

    from avel.media.decode import open_container

    try:
        with open_container(path) as container:
            return str(container.metadata.get("comment", "")).startswith(MARK)
    except (av.error.FFmpegError, OSError):
        return False
