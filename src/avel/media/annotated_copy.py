"""A copy of a video with something drawn on its pictures: their times stay, and the sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import MediaError
from avel.files import whole
from avel.media.decode import Damage, Shown, Shrinker, SoundLine, open_container, packets
from avel.media.encode import BLOCK, SoundTrack, TimedPictures
from avel.media.file import Media

#: Takes an upright (H, W, 3) uint8 RGB picture and the second it is shown at; returns a new one of
#: the same shape.
Draw = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
#: Codecs of sound that an .mp4 holds and browsers play: their packets are copied.
COPIED = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "alac"})
#: A picture that stays on is drawn again so many times a second.
AGAIN = 5.0
_FPS = 25.0
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


def write_copy(
    media: Media, path: str | Path, *, size: tuple[int, int], draw: Draw, comment: str = ""
) -> None:
    """Write an .mp4 of a video with its pictures drawn on, whole or not at all.

    Every picture has the time it had, whatever the rate, and is upright. Sound that an .mp4 can
    hold is copied bit by bit; other sound is encoded anew (AAC, two channels where it has two,
    else their mean). Memory doesn't grow with the length.

    Args:
        media: The video; its chosen tracks are those of the copy.
        path: Where to.
        size: Width and height of the copy in pixels, both even.
        draw: Called with each picture in order of time, of that size.
        comment: What the file says of itself in its metadata.

    Raises:
        MediaError: if the video has no picture, or what it holds can't be written.
        OSError: if there is no room for the file.
    """
    if media.video is None:
        raise MediaError(f"{media.path}: has no picture", expected="a file of video")
    try:
        with whole(path) as temporary, ExitStack() as stack:
            out = stack.enter_context(av.open(str(temporary), "w", format="mp4"))
            source = stack.enter_context(open_container(media.path))
            out.metadata["comment"] = comment
            aspect = _aspect(source.streams[media.video.index], media.video.rotation)
            fps = media.video.fps or _FPS
            pictures = TimedPictures(out, size, fps=fps, aspect=aspect)
            _write(media, pictures, _sound(out, media, source), size, draw)
    except av.error.FFmpegError as e:
        if isinstance(e, OSError):
            raise
        raise MediaError(f"{media.path}: couldn't be written as {path} ({e.strerror})") from e


def _write(
    media: Media,
    pictures: TimedPictures,
    sound: _Copied | _Reencoded | None,
    size: tuple[int, int],
    draw: Draw,
) -> None:
    damage = Damage()
    shrink = Shrinker(damage)
    for shown, start, end in _instants(media._shown(damage), media.duration):
        image = shrink(shown, *size) if end > 0 else None
        if image is not None:
            if sound is not None:
                sound.write_until(start)
            pictures.write(draw(image, max(start, 0.0)), start, end)
    if not pictures.any:
        raise MediaError(f"{media.path}: none of its pictures can be read")
    pictures.finish()
    if sound is not None:
        sound.finish()


def _instants(frames: Iterator[Shown], until: float) -> Iterator[tuple[Shown, float, float]]:
    """Frames with start and end; those that stay on come again, so that what is drawn goes on.

    The last one stays on until the end of the file.
    """
    current = next(frames, None)
    while current is not None:
        following = next(frames, None)
        end = max(current.end, until) if following is None else following.time
        instants = list(clock.frame_instants(current.time, end, AGAIN))
        for start, stop in zip(instants, [*instants[1:], end], strict=True):
            yield current, start, stop
        current = following


def _aspect(stream: Any, rotation: int) -> Fraction | None:
    """Width of an upright pixel over its height, None where it is square or not known."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1:
        return None
    return Fraction(1 / ratio if rotation % 180 == 90 else ratio)


def _sound(out: Any, media: Media, source: Any) -> _Copied | _Reencoded | None:
    if media.audio is None:
        return None
    return (_Copied if media.audio.codec in COPIED else _Reencoded)(out, media, source)


class _Copied:
    """Sound whose packets go into the copy as they are."""

    def __init__(self, out: Any, media: Media, source: Any) -> None:
        assert media.audio is not None
        stream = source.streams[media.audio.index]
        self._out, self._start = out, media.start
        self._stream = out.add_stream_from_template(stream)
        self._packets = packets(source, stream, Damage())
        self._offset = clock.ticks(media.start, float(1 / stream.time_base))
        self._waiting: Any = None
        self._last: int | None = None

    def write_until(self, seconds: float) -> None:
        """Copy the packets that are due before an instant."""
        while (packet := self._waiting or next(self._packets, None)) is not None:
            self._waiting = None
            if packet.pts is None or packet.dts is None or not packet.size:
                continue
            if float(packet.dts * packet.time_base) - self._start >= seconds:
                self._waiting = packet
                return
            self._copy(packet)

    def _copy(self, packet: Any) -> None:
        if self._last is not None and packet.dts <= self._last:  # damage: times that go back
            return
        self._last = packet.dts
        packet.pts, packet.dts = packet.pts - self._offset, packet.dts - self._offset
        packet.stream = self._stream
        self._out.mux(packet)

    def finish(self) -> None:
        """Copy the rest."""
        self.write_until(float("inf"))


class _Reencoded:
    """Sound that is decoded, placed on the video's clock, and encoded again."""

    def __init__(self, out: Any, media: Media, _source: Any) -> None:
        assert media.audio is not None
        source_rate = media.audio.rate
        self._rate = source_rate if source_rate in _AAC_RATES else 48000
        channels = 2 if media.audio.channels == 2 else 1
        chosen: list[int | None] = [0, 1] if channels == 2 else [None]
        tracks = [
            SoundLine(media._blocks(Damage(), channel=c, natural=True), self._rate) for c in chosen
        ]
        blocks = _joined(tracks, clock.sample_index(media.duration, self._rate))
        self._track = SoundTrack(out, blocks, channels=channels, rate=self._rate)

    def write_until(self, seconds: float) -> None:
        """Encode what is due before an instant."""
        self._track.write_until(clock.sample_index(seconds, self._rate))

    def finish(self) -> None:
        """Encode the rest."""
        self._track.finish()


def _joined(tracks: list[SoundLine], count: int) -> Iterator[NDArray[np.float32]]:
    """(channels, BLOCK) blocks of ``count`` samples, the last one shorter."""
    for first in range(0, count, BLOCK):
        yield np.stack([track.read(min(BLOCK, count - first))[0] for track in tracks])
