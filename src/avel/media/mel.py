"""Mel bands, and log-mel patches in numpy: what :mod:`avel.features.logmel` does, without torch."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
FRAMES, BANDS = 96, 64
LOWEST, HIGHEST = 125.0, 7500.0
#: Of VGGish; other backbones' cards may say another.
OFFSET = 0.01
#: Samples that a patch is made of: 0.975 s.
NEEDED = (FRAMES - 1) * HOP + WINDOW


@cache
def mel_matrix() -> NDArray[np.float64]:
    """(257, 64): triangles in mel, 1127 ln(1 + f/700), between 66 evenly spaced edges."""
    mel = 1127 * np.log1p(np.linspace(0, RATE / 2, FFT // 2 + 1) / 700)[:, None]
    ends = 1127 * np.log1p(np.array([LOWEST, HIGHEST]) / 700)
    edges = np.linspace(ends[0], ends[1], BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mel - low) / (centre - low), (high - mel) / (high - centre)
    weights = np.minimum(rising, falling).clip(min=0)
    weights[0] = 0
    return np.asarray(weights)


@cache
def window() -> NDArray[np.float64]:
    """(400,) the periodic Hann window."""
    return np.hanning(WINDOW + 1)[:-1]


def log_mel(samples: NDArray[np.floating], *, offset: float = OFFSET) -> NDArray[np.float32]:
    """Patches of segments of sound, as :func:`avel.features.logmel.log_mel` makes them.

    Args:
        samples: (N, n) floats in [-1, 1] at 16 kHz, one segment a row.
        offset: Added to the bands' energy before the logarithm.

    Returns:
        (N, 96, 64).
    """
    padded = np.zeros((len(samples), NEEDED))
    needed = samples[:, :NEEDED]
    padded[:, : needed.shape[1]] = needed
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    magnitude = np.abs(np.fft.rfft(frames * window(), FFT))
    patches: NDArray[np.float32] = np.log(magnitude @ mel_matrix() + offset).astype(np.float32)
    return patches
