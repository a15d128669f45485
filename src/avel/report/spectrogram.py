"""The log-mel spectrogram of a file's sound as a small PNG, computed from a stream.

Windows and mel bands are those of the audio backbones' log-mel patches.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import AvelError

if TYPE_CHECKING:
    from avel.media.file import Media

#: Most columns of a picture, and the range it shows below the loudest point, in dB.
MAX_COLUMNS, RANGE_DB = 1600, 70.0
#: The least number of windows averaged in a column if windows are skipped.
ENOUGH = 32

_STOPS = (
    (11, 9, 26),
    (38, 18, 84),
    (91, 25, 121),
    (150, 44, 122),
    (207, 68, 105),
    (244, 117, 90),
    (254, 180, 123),
    (252, 253, 205),
)


def file_spectrogram(media: Media) -> bytes:
    """The PNG of a media file's sound; empty if it is silent or can't be read."""
    from avel.media.file import RATE, audio_track

    try:
        samples = clock.sample_index(media.duration, RATE)
        power = mel_columns(audio_track(media, RATE), samples=samples)
    except AvelError:
        return b""
    return spectrogram_png(power) if power.any() else b""


def mel_columns(
    chunks: Iterable[NDArray[np.floating[Any]]], *, samples: int, most: int = MAX_COLUMNS
) -> NDArray[np.float64]:
    """Mean mel magnitudes of a sound in a bounded number of columns, in constant memory.

    Of long sounds only evenly spread windows are taken, at least ``ENOUGH`` a column.

    Args:
        chunks: The sound in order, 16 kHz mono, each of any length.
        samples: How many samples there are in all.
        most: Columns at most.

    Returns:
        (64, columns) magnitudes, lowest band first; one column a hop up to ``most`` columns.
    """
    from avel.media.mel import BANDS, FFT, HOP, WINDOW, mel_matrix, window

    hops = max(1, samples // HOP)
    columns = min(hops, most)
    total, count = np.zeros((columns, BANDS)), np.zeros(columns)
    filters, taper = mel_matrix(), window()
    hop = HOP * max(1, hops // (columns * ENOUGH))
    left, at, done = np.zeros(0), 0, 0  # what is left over, where that begins, windows until now
    for chunk in chunks:
        left = np.concatenate([left, np.asarray(chunk, dtype=np.float64)])
        passed = min(len(left), done * hop - at)  # between windows that don't overlap
        left, at = left[passed:], at + passed
        ready = max(0, (len(left) - WINDOW) // hop + 1)
        if ready:
            frames = np.lib.stride_tricks.sliding_window_view(left, WINDOW)[::hop][:ready]
            power = np.abs(np.fft.rfft(frames * taper, FFT)) @ filters
            begun = (done + np.arange(ready)) * (hop // HOP)
            column = np.minimum(begun * columns // hops, columns - 1)
            np.add.at(total, column, power)
            np.add.at(count, column, 1)
            done += ready
    filled = np.maximum.accumulate(np.where(count > 0, np.arange(columns), 0))
    mean = total / np.maximum(count, 1)[:, None]
    return np.asarray(mean[filled].T)


def spectrogram_png(power: NDArray[np.floating[Any]]) -> bytes:
    """A PNG of mel magnitudes, highest band on top, in 256 colours.

    Args:
        power: (64, columns) magnitudes, lowest band first.
    """
    from PIL import Image

    level = 20 * np.log10(np.maximum(power, 1e-6))
    top = max(float(level.max()), -40.0)
    shade = np.clip((level - top + RANGE_DB) / RANGE_DB, 0, 1)
    image = Image.fromarray((shade[::-1] * 255).astype(np.uint8), mode="L")
    image.putpalette(palette().tobytes())
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def palette() -> NDArray[np.uint8]:
    """(256, 3) colours from dark blue over red to pale yellow, with rising lightness."""
    stops = np.array(_STOPS, dtype=np.float64)
    at, known = np.linspace(0, 1, 256), np.linspace(0, 1, len(stops))
    channels = [np.interp(at, known, stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
