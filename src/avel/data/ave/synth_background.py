"""Simulated sound that belongs to no class, with the spectrum of the release's background videos.

Counted in ``audio_feature_noisy.h5``, VGGish's output on 178 background videos of ten seconds: the
first principal component holds 0.180 of the variance, five 0.464, twenty 0.772; the cosine of a
second to the next is 0.763, to the one after eight others 0.677, to any other video's 0.450; 65.3 %
are zeros, the mean is 0.122, the largest number 4.54. A draw is Gaussian in components whose
variance falls as a power; a part of it stays through the clip, the rest goes from second to second
with a correlation. Threshold and ReLU come after it (:func:`.synth_features.make_clip`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avel.data.ave.files import SECONDS

Floats = NDArray[np.float32]

#: Share of the first component; the others' fall with their number to this power.
FIRST_SHARE, DECAY = 0.16, 1.22
#: Share of the variance that stays through a clip; the rest's correlation with the next second.
CONSTANT, CORRELATION = 0.46, 0.32
#: Standard deviations over the channels: of the logarithm of loudness, and of the threshold.
LOUDNESS, THRESHOLD = 0.44, 0.77
#: The random numbers of the components: one world of sounds, whatever the data set's seed.
_STREAM = 0


@dataclass(frozen=True)
class Background:
    """What all draws share.

    Args:
        components: (128, 128), a row each, as large as its standard deviation; the channels'
            variances are 1 on average.
        spread: (128,) thresholds of the channels, around 0.
    """

    components: Floats
    spread: Floats


@lru_cache(maxsize=1)
def make_background(width: int) -> Background:
    """The components of a number of channels; always the same."""
    rng = np.random.default_rng(_STREAM)
    basis, _ = np.linalg.qr(rng.standard_normal((width, width)))
    shares = np.arange(1, width + 1) ** -DECAY
    shares[0] = 0
    shares *= (1 - FIRST_SHARE) / shares.sum()
    shares[0] = FIRST_SHARE
    loudness = np.exp(LOUDNESS * rng.standard_normal(width))
    components = basis.T * np.sqrt(shares)[:, None] * loudness
    components /= np.sqrt((components**2).sum() / width)
    spread = THRESHOLD * rng.standard_normal(width)
    return Background(components.astype(np.float32), spread.astype(np.float32))


def draw_background(rng: np.random.Generator, background: Background) -> Floats:
    """(T, 128) of one clip, before threshold and ReLU; variance 1 on average."""
    width = len(background.spread)
    constant = rng.standard_normal(width, dtype=np.float32)
    moving = rng.standard_normal((SECONDS, width), dtype=np.float32)
    for second in range(1, SECONDS):
        moving[second] *= np.sqrt(1 - CORRELATION**2)
        moving[second] += CORRELATION * moving[second - 1]
    mixed = np.sqrt(CONSTANT) * constant + np.sqrt(1 - CONSTANT) * moving
    drawn: Floats = mixed.astype(np.float32) @ background.components
    return drawn
