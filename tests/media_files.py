"""Small media files with known pictures and sounds at known times, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TICK = Fraction(1, 1000)


def grey(value: int, size: int = 64) -> NDArray[np.uint8]:
    return np.full((size, size, 3), value, np.uint8)


def click(seconds: float, at: float, rate: int) -> NDArray[np.float32]:
    """Silence with one 2 ms burst at an instant."""
    sound = np.zeros(round(seconds * rate), np.float32)
    sound[round(at * rate) : round(at * rate) + rate // 500] = 0.9
    return sound


def tone(seconds: float, rate: int, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("f4")


def mux(
    path: Path | Any,
    *,
    pictures: Sequence[tuple[float, NDArray[np.uint8]]] = (),
    sounds: Sequence[tuple[float, NDArray[np.float32]]] = (),
    rate: int = 16000,
    video: str = "libx264",
    audio: str = "pcm_s16le",
    container: str | None = None,
) -> Path:
    """Write frames and stretches of sound (channels, n) or (n,) at the times given, in seconds."""
    with av.open(path if container else str(path), "w", format=container) as out:
        picture = _video(out, video, pictures[0][1]) if pictures else None
        sound = _audio(out, audio, rate, sounds[0][1]) if sounds else None
        todo = [(t, 0, image) for t, image in pictures]
        todo += [(t, 1, block) for begin, s in sounds for t, block in _blocks(begin, s, rate)]
        for time, kind, data in sorted(todo, key=lambda x: x[:2]):
            if kind:
                _put_sound(out, sound, data, time, rate)
            else:
                frame = av.VideoFrame.from_ndarray(data, format="rgb24")
                frame.pts, frame.time_base = round(time / TICK), TICK
                out.mux(picture.encode(frame))
        for stream in (picture, sound):
            if stream is not None:
                out.mux(stream.encode(None))
    return path


def _video(out: Any, codec: str, image: NDArray[np.uint8]) -> Any:
    stream = out.add_stream(codec, rate=1000)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.time_base = stream.codec_context.time_base = TICK
    if codec == "libx264":
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "10", "g": "25"}
    return stream


def _audio(out: Any, codec: str, rate: int, sound: NDArray[np.float32]) -> Any:
    channels = 1 if sound.ndim == 1 else len(sound)
    stream = out.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[channels])
    stream.time_base = Fraction(1, rate)
    return stream


def _blocks(begin: float, sound: NDArray[np.float32], rate: int) -> list[tuple[float, Any]]:
    sound = np.atleast_2d(sound)
    firsts = range(0, sound.shape[1], 1024)
    return [(begin + f / rate, sound[:, f : f + 1024]) for f in firsts]


def _put_sound(out: Any, stream: Any, block: Any, time: float, rate: int) -> None:
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(block, np.float32), format="fltp", layout=stream.layout.name
    )
    frame.sample_rate, frame.pts = rate, round(time * rate)
    frame.time_base = Fraction(1, rate)
    out.mux(stream.encode(frame))
