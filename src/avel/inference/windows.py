"""A file of any length in windows: a model's outputs, averaged over the windows of a segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError
from avel.features.stream import FeatureBlock
from avel.types import Floats

#: The parts of an output that become part of the scores, by their name there: (B, T, C)
#: probabilities that a class is audible or visible, NaN where the model cannot tell; (B, T) the
#: weight of the sound; (B, T, C) the lag of the sound in segments.
SCORE_PARTS = {
    "audio_scores": "audible",
    "visual_scores": "visible",
    "audio_weight": "audio_weight",
    "lag": "lag",
}


class RowBuffer:
    """The feature rows of a file in order, of which only those still needed are in memory.

    Args:
        blocks: A few rows, or all, at a time.
    """

    def __init__(self, blocks: Iterable[FeatureBlock]) -> None:
        self._blocks = iter(blocks)
        self._audio: Floats | None = None
        self._visual: Floats | None = None
        self._first = 0  # the index of the first row in memory

    def between(self, first: int, stop: int) -> tuple[Floats, Floats]:
        """Audio and visual rows from ``first`` to before ``stop``; forgets what lies before.

        Raises:
            DataError: if the rows end before.
        """
        while self._audio is None or self._first + len(self._audio) < stop:
            block = next(self._blocks, None)
            if block is None:
                raise DataError("features end early", expected=f"{stop} rows", hint="extract again")
            self._append(block)
            del block  # not in memory while the next one is made
            self._forget(first)
        self._forget(first)
        assert self._visual is not None
        return self._audio[: stop - first], self._visual[: stop - first]

    def _append(self, block: FeatureBlock) -> None:
        if self._audio is None or self._visual is None or not len(self._audio):
            self._audio, self._visual = block.audio, block.visual
        else:
            self._audio = np.concatenate([self._audio, block.audio])
            self._visual = np.concatenate([self._visual, block.visual])

    def _forget(self, first: int) -> None:
        assert self._audio is not None and self._visual is not None and first >= self._first
        passed = min(first - self._first, len(self._audio))
        self._audio, self._visual = self._audio[passed:], self._visual[passed:]
        self._first += passed

    def finish(self) -> None:
        """Read the rest, so that the source of the rows gets to its end."""
        self._audio = self._visual = None
        for _ in self._blocks:
            pass


@dataclass(frozen=True)
class WindowOutput:
    """The output of a network for some windows, as arrays.

    Args:
        scores: (B, T, C+1) in [0, 1], background last.
        labels: (B, T) class ids by the model's own rule.
        attention: (B, T, H, W), each map summing to 1, or None.
        parts: (B, T) and (B, T, ...) arrays by name: those of :data:`SCORE_PARTS` where the
            model has them, and all where its decision needs them.
    """

    scores: Floats
    labels: NDArray[np.integer[Any]]
    attention: Floats | None = None
    parts: Mapping[str, Floats] = field(default_factory=dict)


class Means:
    """Running sums over windows of all outputs of a model for each segment.

    Args:
        count: Segments of the file.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.sums: dict[str, NDArray[np.float32]] = {}
        self.windows = np.zeros(count, dtype=np.float32)  # of each segment

    def add(self, starts: Sequence[int], length: int, output: WindowOutput) -> None:
        """Add the output for some windows; (B, T, ...) each, one row a window."""
        named = {f"part:{name}": part for name, part in output.parts.items()}
        named["scores"] = output.scores
        if output.attention is not None:
            named["attention"] = output.attention
        for name, value in named.items():
            if value.shape[:2] == (len(starts), length) and value.ndim in (2, 3, 4):
                self._sum(name, starts, length, value)
        for start in starts:
            self.windows[start : start + length] += 1

    def _sum(self, name: str, starts: Sequence[int], length: int, value: Floats) -> None:
        total = self.sums.setdefault(name, np.zeros((self.count, *value.shape[2:]), np.float32))
        for i, start in enumerate(starts):
            total[start : start + length] += value[i]

    def mean(self, name: str, segments: slice = slice(None)) -> NDArray[np.float32]:
        """(n, ...) the mean over each segment's windows."""
        total = self.sums[name][segments]
        windows = self.windows[segments].reshape(-1, *[1] * (total.ndim - 1))
        mean: NDArray[np.float32] = total / windows
        return mean

    def parts(self, segments: slice = slice(None)) -> dict[str, NDArray[np.float32]]:
        """The means of the output's parts by name."""
        return {n[5:]: self.mean(n, segments) for n in self.sums if n.startswith("part:")}
