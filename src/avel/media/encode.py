"""Writing media files: H.264 and AAC, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.files import whole

#: Samples in one AAC frame.
BLOCK = 1024
#: Ticks a second of pictures that have times of their own.
TICKS = 90000


def write_video(
    path: str | Path,
    *,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    audio: NDArray[np.floating[Any]] | None = None,
    rate: int = 44100,
    quality: int = 23,
) -> None:
    """Write a video file with H.264 pictures (yuv420p) and AAC sound, whole or not at all.

    The frames are drawn from the iterable as they are encoded, so hours need no more memory than
    seconds (the sound is in memory as a whole). The same frames and sound always give the same
    file.

    Args:
        path: The file; its ending chooses the container (.mp4, .mkv, .mov, .ts).
        frames: (H, W, 3) uint8 RGB each, H and W even and the same for all; none for sound alone.
        fps: Frames a second.
        audio: (n,) or (n, channels) floats in [-1, 1], one or two channels; None for no sound.
        rate: Samples a second of ``audio``.
        quality: x264's constant rate factor, 0 (lossless) to 51.

    Raises:
        UsageError: if a frame is of another shape or type, or there is nothing to write.
    """
    import av

    drawn = iter(frames)
    first = next(drawn, None)
    if first is None and audio is None:
        raise UsageError("there are neither frames nor sound to write")
    with whole(path) as temporary, av.open(str(temporary), "w") as out:
        picture = None if first is None else _picture_stream(out, first, fps, quality)
        sound = None if audio is None else _whole_sound(out, audio, rate)
        if picture is not None and first is not None:
            for index, image in enumerate(chain([first], drawn)):
                out.mux(picture.encode(_frame(image, index, picture)))
                if sound is not None:
                    sound.write_until(clock.sample_index((index + 1) / fps, rate))
            out.mux(picture.encode(None))
        if sound is not None:
            sound.finish()


def _picture_stream(out: Any, first: NDArray[np.uint8], fps: float, quality: int) -> Any:
    if first.ndim != 3 or first.shape[2] != 3 or first.shape[0] % 2 or first.shape[1] % 2:
        raise UsageError(f"the frames have shape {first.shape}", expected="(H, W, 3), H and W even")
    return _h264(out, first.shape[1], first.shape[0], fps, quality)


def _h264(out: Any, width: int, height: int, fps: float, quality: int, more: str = "") -> Any:
    stream = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv420p"
    # The same file each time: x264's macroblock tree reads memory that nobody wrote, and with more
    # threads than one the slices depend on the number of cores.
    params = f"mbtree=0{more}"
    stream.options = {"crf": str(quality), "preset": "veryfast", "x264-params": params}
    stream.codec_context.thread_count = 1
    return stream


def _frame(image: NDArray[np.uint8], index: int, stream: Any) -> Any:
    import av

    if image.dtype != np.uint8 or image.shape != (stream.height, stream.width, 3):
        raise UsageError(
            f"frame {index} has shape {image.shape} and type {image.dtype}",
            expected=f"({stream.height}, {stream.width}, 3) uint8, like the first",
        )
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame.pts = index
    frame.time_base = 1 / stream.codec_context.framerate
    return frame


class TimedPictures:
    """The pictures of a file being written, each at a time of its own.

    Args:
        out: The container.
        size: Width and height in pixels, both even.
        fps: About how many come in a second; for the encoder's rate control.
        aspect: Width of a pixel over its height; None for square ones.
        quality: As for :func:`write_video`.
    """

    def __init__(
        self,
        out: Any,
        size: tuple[int, int],
        *,
        fps: float,
        aspect: Fraction | None = None,
        quality: int = 20,
    ) -> None:
        # without B-frames a picture is decoded when it is shown: no time is ever rearranged
        self._out, self._last = out, -1
        self._stream = _h264(out, *size, fps, quality, ":bframes=0")
        context = self._stream.codec_context
        self._stream.time_base = context.time_base = Fraction(1, TICKS)
        # what from_ndarray's RGB is made into: BT.601, 16 to 235
        context.colorspace = context.color_primaries = context.color_trc = _BT601
        context.color_range = _LIMITED
        if aspect:
            context.sample_aspect_ratio = aspect

    @property
    def any(self) -> bool:
        """Whether a picture was written."""
        return self._last >= 0

    def write(self, image: NDArray[np.uint8], start: float, end: float) -> None:
        """Encode an (H, W, 3) uint8 RGB picture; one that isn't later than the last is dropped.

        Args:
            image: The picture.
            start, end: Seconds from when and until when it is shown.
        """
        import av

        first, stop = clock.span_ticks(max(start, 0.0), end, TICKS)
        if first <= self._last:
            return
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.duration, frame.time_base = first, stop - first, Fraction(1, TICKS)
        self._last = first
        self._out.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Flush the encoder."""
        self._out.mux(self._stream.encode(None))


# numbers of ISO/IEC 23091-2: SMPTE 170M for matrix, primaries and curve; limited range
_BT601, _LIMITED = 6, 1


def _whole_sound(out: Any, audio: NDArray[np.floating[Any]], rate: int) -> SoundTrack:
    """The track of a sound that is in memory as a whole."""
    samples = np.atleast_2d(np.asarray(audio, np.float32).T)
    if samples.ndim != 2 or len(samples) not in (1, 2):
        raise UsageError(f"the sound has shape {audio.shape}", expected="(n,), (n, 1) or (n, 2)")
    blocks = (samples[:, i : i + BLOCK] for i in range(0, samples.shape[1], BLOCK))
    return SoundTrack(out, blocks, channels=len(samples), rate=rate)


class SoundTrack:
    """The AAC sound of a file being written, in step with the pictures.

    Args:
        out: The container.
        blocks: (channels, BLOCK) floats in [-1, 1] each, the last one shorter.
        channels: One or two.
        rate: Samples a second.
    """

    def __init__(
        self, out: Any, blocks: Iterator[NDArray[np.float32]], *, channels: int, rate: int
    ) -> None:
        self._layout = "mono" if channels == 1 else "stereo"
        self._out, self._blocks, self._rate, self._next = out, blocks, rate, 0
        self._stream = out.add_stream("aac", rate=rate, layout=self._layout)

    def write_until(self, sample: float) -> None:
        """Encode all whole blocks that begin before a sample."""
        while self._next < sample:
            block = next(self._blocks, None)
            if block is None:
                return
            self._write(block)

    def _write(self, block: NDArray[np.float32]) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block.clip(-1.0, 1.0)), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.pts = self._rate, self._next
        frame.time_base = Fraction(1, self._rate)
        self._out.mux(self._stream.encode(frame))
        self._next += block.shape[1]

    def finish(self) -> None:
        """Encode what is left and flush the encoder."""
        self.write_until(float("inf"))
        self._out.mux(self._stream.encode(None))
