"""Log-mel patches exactly as VGGish wants them (Hershey et al. 2017; AudioSet's mel_features.py).

16 kHz mono, each second by itself: magnitudes of a 512-point Fourier transform of 400-sample
windows (25 ms, periodic Hann) every 160 samples (10 ms), the window at the start of its frame and
nothing centred; 64 mel bands from 125 to 7500 Hz on the HTK scale, without normalisation and
without the constant term; ln(mel + 0.01); the first 96 frames.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from avel.media import mel
from avel.media.mel import FFT, HOP, NEEDED, OFFSET, WINDOW


@cache
def mel_matrix() -> Tensor:
    """(257, 64) float64: triangles in mel; see :func:`avel.media.mel.mel_matrix`."""
    return torch.from_numpy(mel.mel_matrix())


@cache
def _window() -> Tensor:
    return torch.from_numpy(mel.window())


def log_mel(samples: Tensor, *, offset: float = OFFSET) -> Tensor:
    """Patches of segments of sound.

    Only the first 0.975 s (15600 samples) of a segment enter; shorter ones are padded with zeros.
    So a segment of another length than a second is represented by its first 0.975 s.

    Args:
        samples: (N, n) floats in [-1, 1] at 16 kHz, one segment a row.
        offset: Added to the bands' energy before the logarithm; see ``log_offset`` of
            :class:`avel.backbones.base.Card`.

    Returns:
        (N, 96, 64) float32.

    Raises:
        ValueError: if the samples aren't of two dimensions.
    """
    if samples.ndim != 2:
        raise ValueError(f"samples of shape {tuple(samples.shape)}: expected (N, n)")
    needed = samples[:, :NEEDED].double()  # as VGGish; float32 errs by 1e-3 in quiet bands
    padded = torch.nn.functional.pad(needed, (0, NEEDED - needed.shape[1]))
    frames = padded.unfold(1, WINDOW, HOP) * _window().to(padded)
    magnitude = torch.fft.rfft(frames, FFT).abs()
    return torch.log(magnitude @ mel_matrix().to(padded) + offset).float()
