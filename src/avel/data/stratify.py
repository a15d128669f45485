"""Dividing recordings into parts that have all classes in equal shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def divide(
    has_class: NDArray[np.bool_],
    sizes: Sequence[float],
    rng: np.random.Generator,
    *,
    exact: bool = False,
) -> NDArray[np.int64]:
    """The part of each recording; each part gets its share of every class.

    The class with the fewest recordings left is divided first. Each of its recordings goes to the
    part that lacks most of the recording's classes, relative to their size, then most recordings
    (iterative stratification, after Sechidis et al. 2011).

    Args:
        has_class: (N, C) whether a class occurs in a recording.
        sizes: Recordings that each part should get, N in all.
        rng: Decides between equals.
        exact: Whether a part never gets more than its (whole) size, as of parts of different sizes.

    Returns:
        (N,) part ids.
    """
    share = np.asarray(sizes, dtype=np.float64)
    lacking = np.outer(share, has_class.sum(0)) / max(1.0, share.sum())
    free = share.copy()
    part = np.full(len(has_class), -1, dtype=np.int64)
    while (part < 0).any():
        remaining = np.flatnonzero(part < 0)
        per_class = has_class[remaining].sum(0)
        rarest = min(np.flatnonzero(per_class), key=lambda c: per_class[c], default=None)
        candidates = remaining if rarest is None else remaining[has_class[remaining, rarest]]
        for i in rng.permutation(candidates):
            need = lacking @ (has_class[i] / np.maximum(1, has_class.sum(0)))
            keys = [rng.permutation(len(share)), -free, -need]
            if exact:  # parts of different sizes: the rarest class alone, among those with room
                keys += [] if rarest is None else [-lacking[:, rarest]]
                keys.append(free < 0.5)
            chosen = int(np.lexsort(keys)[0])
            part[i] = chosen
            lacking[chosen] -= has_class[i]
            free[chosen] -= 1
    return part
