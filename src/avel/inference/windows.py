"""A file of any length in windows: what a model answers for each, averaged over a segment's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError
from avel.types import Floats

#: The parts of an answer that are kept as scores of one modality, by their name in the scores:
#: (B, T, C) probabilities that a class is audible or visible, NaN where the model cannot tell.
MODALITY_PARTS = {"audio_scores": "audible", "visual_scores": "visible"}


class RowBuffer:
    """The feature rows of a file in order, of which only those still expected are held.

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
                raise DataError("features end early", expected=f"{stop} rows", hint="extract again")
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


@dataclass(frozen=True)
class WindowOutput:
    """What a network says of some windows, as arrays.

    Args:
        scores: (B, T, C+1) in [0, 1], background last.
        labels: (B, T) class ids by the model's own rule.
        attention: (B, T, H, W), each map summing to 1, or None.
        parts: (B, T) and (B, T, ...) arrays by name: those of :data:`MODALITY_PARTS` where the
            model has them, and all where its decision needs them.
    """

    scores: Floats
    labels: NDArray[np.integer[Any]]
    attention: Floats | None = None
    parts: Mapping[str, Floats] = field(default_factory=dict)


class Means:
    """Running sums over windows of whatever a model answers for each segment.

    Args:
        count: Segments of the file.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.sums: dict[str, NDArray[np.float32]] = {}
        self.seen = np.zeros(count, dtype=np.float32)

    def add(self, starts: Sequence[int], length: int, reply: WindowOutput) -> None:
        """Add the answer of some windows; (B, T, ...) each, one row a window."""
        named = {f"part:{name}": part for name, part in reply.parts.items()}
        named["scores"] = reply.scores
        if reply.attention is not None:
            named["attention"] = reply.attention
        for name, value in named.items():
            if value.shape[:2] == (len(starts), length) and value.ndim in (2, 3, 4):
                self._sum(name, starts, length, value)
        for start in starts:
            self.seen[start : start + length] += 1

    def _sum(self, name: str, starts: Sequence[int], length: int, value: Floats) -> None:
        held = self.sums.setdefault(name, np.zeros((self.count, *value.shape[2:]), np.float32))
        for i, start in enumerate(starts):
            held[start : start + length] += value[i]

    def mean(self, name: str, segments: slice = slice(None)) -> NDArray[np.float32]:
        """(n, ...) the mean over each segment's windows."""
        held = self.sums[name][segments]
        seen = self.seen[segments].reshape(-1, *[1] * (held.ndim - 1))
        result: NDArray[np.float32] = held / seen
        return result

    def parts(self, segments: slice = slice(None)) -> dict[str, NDArray[np.float32]]:
        """The means of the answer's parts by name."""
        return {n[5:]: self.mean(n, segments) for n in self.sums if n.startswith("part:")}
