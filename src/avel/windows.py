"""A file of any length in windows: what a model answers for each, averaged over a segment's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avel.models.base import Answer


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Stretches of at most ``size`` items."""
    for i in range(0, len(items), size):
        yield items[i : i + size]


class Means:
    """Running sums over windows of whatever a model answers for each segment."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sums: dict[str, NDArray[np.float32]] = {}
        self.seen = np.zeros(count, dtype=np.float32)
        self.labels = np.zeros(count, dtype=np.int64)

    def add(self, starts: Sequence[int], length: int, answer: Answer) -> None:
        """Add the answer of some windows; (B, T, ...) each, one row a window."""
        named = {"scores": answer.scores, "attention": answer.attention}
        named |= {f"part:{n}": p for n, p in answer.parts.items() if p.ndim in (2, 3)}
        shape = (len(starts), length)
        for name, value in named.items():
            if value is not None and tuple(value.shape[:2]) == shape:
                self._sum(name, starts, length, value)
        assert answer.labels is not None
        for i, start in enumerate(starts):
            self.seen[start : start + length] += 1
            self.labels[start : start + length] = answer.labels[i].cpu().numpy()

    def _sum(self, name: str, starts: Sequence[int], length: int, value: Tensor) -> None:
        array = value.float().cpu().numpy()
        held = self.sums.setdefault(name, np.zeros((self.count, *array.shape[2:]), np.float32))
        for i, start in enumerate(starts):
            held[start : start + length] += array[i]

    def has(self, name: str) -> bool:
        """Whether the model answered anything by that name."""
        return name in self.sums

    def mean(self, name: str) -> NDArray[np.float32]:
        """(T, ...) the mean over each segment's windows."""
        held = self.sums[name]
        result: NDArray[np.float32] = held / self.seen.reshape(-1, *[1] * (held.ndim - 1))
        return result

    def parts(self) -> dict[str, NDArray[np.float32]]:
        """The means of the answer's parts by name."""
        return {n[5:]: self.mean(n) for n in self.sums if n.startswith("part:")}
