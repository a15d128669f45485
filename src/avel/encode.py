"""Writing media files: H.264 and AAC, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
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
_BLOCK = 1024


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
    seconds (the sound is held whole). The same frames and sound give the same file each time.

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
        raise UsageError("neither frames nor sound to write", wanted="at least one of them")
    with whole(path) as temporary, av.open(str(temporary), "w") as out:
        picture = None if first is None else _picture_stream(out, first, fps, quality)
        sound = None if audio is None else _Sound(out, audio, rate)
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
        raise UsageError(f"a frame of shape {first.shape}", wanted="(H, W, 3), H and W even")
    stream = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = "yuv420p"
    # The same file each time: x264's macroblock tree reads memory that nobody wrote, and with more
    # threads than one the slices depend on the number of cores.
    stream.options = {"crf": str(quality), "preset": "veryfast", "x264-params": "mbtree=0"}
    stream.codec_context.thread_count = 1
    return stream


def _frame(image: NDArray[np.uint8], index: int, stream: Any) -> Any:
    import av

    if image.dtype != np.uint8 or image.shape != (stream.height, stream.width, 3):
        raise UsageError(
            f"frame {index} of shape {image.shape} and type {image.dtype}",
            wanted=f"({stream.height}, {stream.width}, 3) uint8, like the first",
        )
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame.pts = index
    frame.time_base = 1 / stream.codec_context.framerate
    return frame


class _Sound:
    """The sound track of a file being written, in step with the pictures."""

    def __init__(self, out: Any, audio: NDArray[np.floating[Any]], rate: int) -> None:
        samples = np.atleast_2d(np.asarray(audio, np.float32).T)
        if samples.ndim != 2 or len(samples) not in (1, 2):
            raise UsageError(f"sound of shape {audio.shape}", wanted="(n,), (n, 1) or (n, 2)")
        self._samples = np.clip(samples, -1.0, 1.0)
        self._layout = "mono" if len(samples) == 1 else "stereo"
        self._out, self._rate, self._next = out, rate, 0
        self._stream = out.add_stream("aac", rate=rate, layout=self._layout)

    def write_until(self, sample: int) -> None:
        """Encode all whole blocks that begin before a sample."""
        while self._next < min(sample, self._samples.shape[1]):
            self._write(self._samples[:, self._next : self._next + _BLOCK])

    def _write(self, block: NDArray[np.float32]) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.pts = self._rate, self._next
        frame.time_base = Fraction(1, self._rate)
        self._out.mux(self._stream.encode(frame))
        self._next += block.shape[1]

    def finish(self) -> None:
        """Encode what is left and flush the encoder."""
        self.write_until(self._samples.shape[1])
        self._out.mux(self._stream.encode(None))
