"""Excerpts of files for a page: a picture or a spectrogram, and a small video that plays."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path

from avel import clock
from avel.errors import AvelError
from avel.media.encode import write_video
from avel.media.excerpt import frame_size, pictures, sound
from avel.media.file import RATE, Media, open_media
from avel.report.spectrogram import mel_columns, spectrogram_png
from avel.report.thumbs import data_uri, jpeg_uri

#: Most bytes and seconds of all cuts of a page together.
BYTES, SECONDS = 5_000_000, 120.0
#: Seconds that a cut begins before its excerpt and ends after it.
MARGIN = 2.0
#: A cut's longer side in pixels, its frames a second and its quality; a picture's longer side.
SIDE, FPS, QUALITY, WIDTH = 480, 25.0, 28, 320
#: Most columns of a spectrogram.
COLUMNS = 400


@dataclass(frozen=True)
class Excerpt:
    """An excerpt of a file.

    Args:
        first, last: Start and end of the cut in seconds of the file.
        image: The requested image as a data URI: the picture in the middle of the excerpt, or the
            spectrogram from ``first`` to ``last``; empty where the file has none.
        visual: Whether the cut has a picture.
        cut: Base64 of an .mp4; empty beyond the limits of all cuts together.
        player_start: What a browser's player calls second 0 of the file.
    """

    first: float
    last: float
    image: str = ""
    visual: bool = False
    cut: str = ""
    player_start: float = 0.0


class ExcerptCutter:
    """Cuts excerpts out of files, as long as the cuts together stay within limits.

    The first cut that would exceed a limit isn't made, nor any after it; images still are.
    """

    def __init__(self) -> None:
        self._bytes, self._seconds = BYTES, SECONDS
        self._opened: dict[str, Media | None] = {}

    def excerpt(self, file: str, start: float, end: float, *, picture: bool) -> Excerpt | None:
        """An excerpt of a file, or None if the file can't be read.

        Args:
            file: Its path.
            start, end: Seconds.
            picture: True for a picture as the image, False for a spectrogram.
        """
        media = self._media(file)
        if media is None:
            return None
        first, last = clock.widened(start, end, MARGIN, media.duration)
        try:
            image = _picture(media, start, end) if picture else _spectrogram(media, first, last)
            content, visual = self._cut(media, first, last), media.video is not None
            return Excerpt(first, last, image, visual, content, media.player_start)
        except AvelError:
            return None

    def _media(self, file: str) -> Media | None:
        if file not in self._opened:
            try:
                self._opened[file] = open_media(file)
            except AvelError:
                self._opened[file] = None
        return self._opened[file]

    def _cut(self, media: Media, first: float, last: float) -> str:
        self._seconds -= last - first
        if self._seconds < 0:
            return ""
        content = cut(media, first, last)
        self._bytes -= len(content)
        if self._bytes < 0:
            self._seconds = -1.0
            return ""
        return base64.b64encode(content).decode()


def cut(media: Media, first: float, last: float) -> bytes:
    """An excerpt of a file as a small .mp4 that browsers play: H.264 and AAC.

    Args:
        media: The file.
        first, last: Seconds.
    """
    size = frame_size(media, most=SIDE)
    fps = min(media.video.fps or FPS, FPS) if media.video else FPS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.mp4"
        write_video(
            path,
            frames=pictures(media, first, last, fps=fps, size=size) if media.video else (),
            fps=fps,
            audio=sound(media, first, last) if media.audio else None,
            quality=QUALITY,
        )
        return path.read_bytes()


def _picture(media: Media, start: float, end: float) -> str:
    if media.video is None:
        return ""
    size = frame_size(media, most=WIDTH)
    return jpeg_uri(next(pictures(media, clock.middle(start, end), end, fps=FPS, size=size)))


def _spectrogram(media: Media, first: float, last: float) -> str:
    if media.audio is None:
        return ""
    samples = sound(media, first, last, rate=RATE)
    power = mel_columns([samples], samples=len(samples), most=COLUMNS)
    return data_uri(spectrogram_png(power), "image/png")
