"""A file of any length in windows: what a model answers for each, averaged over a segment's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avel.errors import DataError
from avel.models.base import Answer
from avel.types import Floats


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Stretches of at most ``size`` items."""
    for i in range(0, len(items), size):
        yield items[i : i + size]


class Rows:
    """The feature rows of a file in order, of which only those still wanted are held.

    Args:
        blocks: Audio (n, A) and visual (n, H, W, V) rows, a few or all at a time.
    """

    def __init__(self, blocks: Iterable[tuple[Floats, Floats]]) -> None:
        self._blocks = iter(blocks)
        self._held: tuple[Floats, Floats] | None = None
        self._first = 0  # the index of the first row held

    def between(self, first: int, stop: int) -> tuple[Floats, Floats]:
        """Audio and visual rows from ``first`` to before ``stop``; forgets what lies before.

        Raises:
            DataError: if the rows end before.
        """
        while self._held is None or self._first + len(self._held[0]) < stop:
            new = next(self._blocks, None)
            if new is None:
                raise DataError("features end early", wanted=f"{stop} rows", do="extract again")
            self._append(new)
            self._forget(first)
        self._forget(first)
        audio, visual = self._held
        return audio[: stop - first], visual[: stop - first]

    def _append(self, new: tuple[Floats, Floats]) -> None:
        if self._held is None or not len(self._held[0]):
            self._held = new
        else:
            audio, visual = self._held
            self._held = np.concatenate([audio, new[0]]), np.concatenate([visual, new[1]])

    def _forget(self, first: int) -> None:
        assert self._held is not None and first >= self._first
        gone = min(first - self._first, len(self._held[0]))
        self._held = self._held[0][gone:], self._held[1][gone:]
        self._first += gone

    def finish(self) -> None:
        """Read what is left, so that who makes the rows can tell what it learnt by the end."""
        self._held = None
        for _ in self._blocks:
            pass


class Means:
    """Running sums over windows of whatever a model answers for each segment.

    Args:
        count: Segments of the file.
        parts: Whether the answer's parts are wanted too.
    """

    def __init__(self, count: int, *, parts: bool = True) -> None:
        self.count = count
        self._wants_parts = parts
        self.sums: dict[str, NDArray[np.float32]] = {}
        self.seen = np.zeros(count, dtype=np.float32)
        self.labels = np.zeros(count, dtype=np.int64)

    def add(self, starts: Sequence[int], length: int, answer: Answer) -> None:
        """Add the answer of some windows; (B, T, ...) each, one row a window."""
        named = {"scores": answer.scores, "attention": answer.attention}
        if self._wants_parts:
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
