"""Calibration of a model's probabilities: reliability, ECE, and one temperature.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017: the logarithms of the
probabilities are divided by a temperature that makes the labels of a validation split most likely;
which class is the most probable doesn't change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import UsageError
from avel.inference.decision import TEMPERATURES, soften

Array = NDArray[Any]
#: Bins of confidence, of equal width.
BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence beside accuracy, by bins of confidence.

    Args:
        confidence, accuracy: (bins,) means over the segments of a bin; 0 where it is empty.
        count: (bins,) segments.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean gap, weighted by the segments; ``nan`` of none.

        A share in [0, 1] (Guo et al. 2017, equation 3).
        """
        total = int(self.count.sum())
        gaps = np.abs(self.confidence - self.accuracy) * self.count
        return float(gaps.sum() / total) if total else float("nan")


def reliability(scores: Array, truth: Array, *, bins: int = BINS) -> Reliability:
    """How often the most probable class is correct, by its probability.

    Args:
        scores: (..., C+1) probabilities, background last.
        truth: (...,) class ids, C for background, -1 for segments that don't count.
        bins: Of equal width over [0, 1].
    """
    valid = truth >= 0
    confidence, correct = scores[valid].max(-1), scores[valid].argmax(-1) == truth[valid]
    index = np.minimum((confidence.astype(np.float64) * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    safe = np.maximum(count, 1)
    return Reliability(
        confidence=np.bincount(index, confidence, bins) / safe,
        accuracy=np.bincount(index, correct, bins) / safe,
        count=count,
    )


def are_probabilities(scores: Array, truth: Array) -> bool:
    """Whether the segments that count' scores sum to 1 over the classes.

    Args:
        scores: (..., C+1).
        truth: (...,) class ids, -1 for segments that don't count.
    """
    return bool(np.allclose(scores[truth >= 0].sum(-1), 1, atol=1e-3))


def negative_log_likelihood(scores: Array, truth: Array) -> float:
    """Mean over the segments that count of -ln p(true class), in nats."""
    valid = truth >= 0
    likelihoods = np.take_along_axis(scores[valid], truth[valid][:, None].astype(np.int64), 1)
    return float(-np.log(likelihoods.astype(np.float64).clip(1e-12)).mean())


def brier(scores: Array, truth: Array) -> float:
    """Mean over the segments that count of the squared distance to the truth, from 0 to 2.

    Brier, Monthly Weather Review 78, 1950: summed over the classes.

    Args:
        scores: (..., C+1) probabilities.
        truth: (...,) class ids, -1 for segments that don't count.
    """
    valid = truth >= 0
    predicted, ids = scores[valid].astype(np.float64), truth[valid].astype(np.int64)
    errors = predicted - np.eye(predicted.shape[-1])[ids]
    return float(np.square(errors).sum(-1).mean())


def fit_temperature(scores: Array, truth: Array) -> float:
    """The temperature at which the true classes are most likely.

    Args:
        scores: (..., C+1) probabilities that sum to 1.
        truth: (...,) class ids, -1 for segments that don't count.

    Raises:
        UsageError: if the scores are no distributions, or no segment counts.
    """
    from scipy.optimize import minimize_scalar

    valid = truth >= 0
    rows, ids = scores[valid], truth[valid]
    if not len(ids):
        raise UsageError("the split has no segment to calibrate on", expected="a split with labels")
    if not are_probabilities(scores, truth):
        raise UsageError(
            "the scores are no probabilities over the classes",
            expected="rows that sum to 1",
            hint="tune without calibration: --no-calibrate",
        )
    result = minimize_scalar(
        lambda log: negative_log_likelihood(soften(rows, float(np.exp(log))), ids),
        bounds=(np.log(TEMPERATURES[0] * 2), np.log(TEMPERATURES[1] / 2)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return round(float(np.exp(result.x)), 4)
