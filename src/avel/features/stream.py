"""Features as they are made: rows in blocks. This module doesn't import torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avel.progress import Progress
from avel.types import Bools, Features, Floats, Grid, Json

#: Called with segments done and segments in all.

#: A segment is audible above this level (dBFS) and within this of the file's loudest (dB).
AUDIBLE_ABOVE, AUDIBLE_WITHIN = -50.0, 20.0


def audible(levels: NDArray[np.floating], *, loudest: float = -np.inf) -> Bools:
    """(T,) True where a segment is above -50 dBFS and within 20 dB of the file's loudest.

    Args:
        levels: (T,) dBFS.
        loudest: The file's loudest level, where it is known before all of them are.
    """
    floor = max(AUDIBLE_ABOVE, float(levels.max(initial=loudest)) - AUDIBLE_WITHIN)
    return np.asarray((levels > AUDIBLE_ABOVE) & (levels >= floor))


@dataclass
class FeatureBlock:
    """Consecutive segments' rows: audio (n, A), visual (n, H, W, V), dBFS (n,), visible (n,).

    ``file`` is the file's place among those that are read together.
    """

    audio: Floats
    visual: Floats
    levels: NDArray[np.float64]
    visible: Bools
    file: int = 0

    def __len__(self) -> int:
        return len(self.audio)

    @classmethod
    def of(cls, count: int, audio: tuple[int, ...], visual: tuple[int, ...]) -> FeatureBlock:
        """Rows of zeros, silent and without a picture."""
        return cls(
            audio=np.zeros((count, *audio), np.float32),
            visual=np.zeros((count, *visual), np.float32),
            levels=np.full(count, -np.inf),
            visible=np.zeros(count, bool),
        )


class FeatureStream:
    """A file's features as they are made, to be read once: (n, A) and (n, H, W, V) rows in order.

    Of what was read only the segments' levels and visibility stay: ``visible`` is right for the
    rows read so far, and so is ``audible`` where ``loudest`` is known; else once all was read.

    Args:
        blocks: The rows.
        grid: The file's segments.
        widths: A and V.
        cards: The cards of the audio and the visual backbone.
        source: Name of the file, without its folder.
        loudest: dBFS of the loudest segment, where it is known before.
        notes: What is missing or damaged in the file; may grow while it is read.
    """

    def __init__(
        self,
        blocks: Iterator[FeatureBlock],
        *,
        grid: Grid,
        widths: tuple[int, int],
        cards: tuple[Json, Json],
        source: str = "",
        loudest: float = -np.inf,
        notes: Sequence[str] = (),
    ) -> None:
        self.notes = notes
        self.grid, self.widths, self.source, self.loudest = grid, widths, source, loudest
        self.audio_card, self.visual_card = cards
        self.visible: Bools = np.zeros(len(grid), bool)
        self._blocks = blocks
        self.levels = np.full(len(grid), -np.inf)

    @classmethod
    def of(cls, features: Features, *, progress: Progress | None = None) -> FeatureStream:
        """Features that are all there, as a stream of one block.

        Their levels aren't known: those of audible segments are given as 0 dBFS.
        """
        levels = np.where(features.audible, 0.0, -np.inf)

        def blocks() -> Iterator[FeatureBlock]:
            yield FeatureBlock(features.audio, features.visual, levels, features.visible)
            if progress is not None:
                progress(len(features), len(features))

        return cls(
            blocks(),
            grid=features.grid,
            widths=(features.audio.shape[-1], features.visual.shape[-1]),
            cards=(features.audio_card, features.visual_card),
            source=features.source,
            loudest=float(levels.max(initial=-np.inf)),
            notes=features.notes,
        )

    def __len__(self) -> int:
        return len(self.grid)

    def blocks(self) -> Iterator[FeatureBlock]:
        """The rows with what is known of their segments; to be read once."""
        first = 0
        for block in self._blocks:
            stop = first + len(block)
            self.levels[first:stop] = block.levels
            self.visible[first:stop] = block.visible
            first = stop
            yield block

    @property
    def audible(self) -> Bools:
        """(T,) True where a segment is loud enough; see :func:`audible`."""
        return audible(self.levels, loudest=self.loudest)

    def gather(self) -> Features:
        """Read all of it."""
        audio = visual = np.zeros(0, np.float32)
        first = 0
        for block in self.blocks():
            if not first:
                audio = np.zeros((len(self), *block.audio.shape[1:]), np.float32)
                visual = np.zeros((len(self), *block.visual.shape[1:]), np.float32)
            audio[first : first + len(block)] = block.audio
            visual[first : first + len(block)] = block.visual
            first += len(block)
        return Features(
            audio=audio,
            visual=visual,
            grid=self.grid,
            audible=self.audible,
            visible=self.visible,
            audio_card=self.audio_card,
            visual_card=self.visual_card,
            source=self.source,
            notes=tuple(self.notes),
        )
