"""Features as they are made: segments in groups, a few decoded ahead, rows in blocks. No torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avel.types import Bools, Features, Grid, Json

if TYPE_CHECKING:
    from avel.media import Segment

#: Called with segments done and segments in all.
Progress = Callable[[int, int], None]

#: A segment is audible above this level (dBFS) and within this of the file's loudest (dB).
AUDIBLE_ABOVE, AUDIBLE_WITHIN = -50.0, 20.0
_AHEAD = 8  # segments decoded ahead of the networks
_GROUP = 64  # segments at most that wait for the networks together


def audible(levels: NDArray[np.floating], *, loudest: float = -np.inf) -> Bools:
    """(T,) True where a segment is above -50 dBFS and within 20 dB of the file's loudest.

    Args:
        levels: (T,) dBFS.
        loudest: The file's loudest level, where it is known before all of them are.
    """
    floor = max(AUDIBLE_ABOVE, float(levels.max(initial=loudest)) - AUDIBLE_WITHIN)
    return np.asarray((levels > AUDIBLE_ABOVE) & (levels >= floor))


@dataclass
class Block:
    """Consecutive segments' rows: audio (n, A), visual (n, H, W, V), dBFS (n,), visible (n,)."""

    audio: NDArray[np.float32]
    visual: NDArray[np.float32]
    levels: NDArray[np.float64]
    visible: Bools

    @classmethod
    def of(cls, count: int, audio: tuple[int, ...], visual: tuple[int, ...]) -> Block:
        """Rows of zeros, silent and without a picture."""
        return cls(
            audio=np.zeros((count, *audio), np.float32),
            visual=np.zeros((count, *visual), np.float32),
            levels=np.full(count, -np.inf),
            visible=np.zeros(count, bool),
        )


class FeatureStream:
    """A file's features as they are made, to be read once: (n, A) and (n, H, W, V) rows in order.

    Only what says which segments are audible and visible is kept of what was read: ``visible`` is
    right for the rows read so far, ``audible`` for them too where ``loudest`` is known, else once
    all was read.

    Args:
        blocks: The rows.
        grid: The file's segments.
        widths: A and V.
        cards: The cards of the audio and the visual backbone.
        source: Name of the file, without its folder.
        loudest: dBFS of the loudest segment, where it is known before.
    """

    def __init__(
        self,
        blocks: Iterator[Block],
        *,
        grid: Grid,
        widths: tuple[int, int],
        cards: tuple[Json, Json],
        source: str = "",
        loudest: float = -np.inf,
    ) -> None:
        self.grid, self.widths, self.source, self.loudest = grid, widths, source, loudest
        self.audio_card, self.visual_card = cards
        self.visible: Bools = np.zeros(len(grid), bool)
        self._blocks = blocks
        self.levels = np.full(len(grid), -np.inf)

    def __len__(self) -> int:
        return len(self.grid)

    def blocks(self) -> Iterator[Block]:
        """The rows with what is known of their segments; to be read once, or iterated instead."""
        first = 0
        for block in self._blocks:
            stop = first + len(block.audio)
            self.levels[first:stop] = block.levels
            self.visible[first:stop] = block.visible
            first = stop
            yield block

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for block in self.blocks():
            yield block.audio, block.visual

    @property
    def audible(self) -> Bools:
        """(T,) True where a segment is loud enough; see :func:`audible`."""
        return audible(self.levels, loudest=self.loudest)

    def gather(self) -> Features:
        """Read all of it."""
        held: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        first = 0
        for rows in self:
            if held is None:
                audio, visual = (np.zeros((len(self), *r.shape[1:]), np.float32) for r in rows)
                held = audio, visual
            for whole, part in zip(held, rows, strict=True):
                whole[first : first + len(part)] = part
            first += len(rows[0])
        assert held is not None, "a file has at least one segment"
        return Features(
            audio=held[0],
            visual=held[1],
            grid=self.grid,
            audible=self.audible,
            visible=self.visible,
            audio_card=self.audio_card,
            visual_card=self.visual_card,
            source=self.source,
        )


@dataclass
class Group:
    """Consecutive segments, numbered from the group's first, with their distinct pictures.

    ``shares[k]`` says what share of which segments' frames picture k is, by those numbers.
    """

    segments: list[Segment] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    shares: list[dict[int, float]] = field(default_factory=list)

    def add(self, segment: Segment) -> None:
        """Take a segment in; a picture equal to the one before it isn't kept twice."""
        segment = replace(segment, index=len(self.segments))
        self.segments.append(segment)
        for image in segment.frames:
            if not self.images or not np.array_equal(image, self.images[-1]):
                self.images.append(image)
                self.shares.append({})
            shares = self.shares[-1]
            shares[segment.index] = shares.get(segment.index, 0.0) + 1 / len(segment.frames)


def groups(segments: Iterator[Segment], *, frames: int) -> Iterator[Group]:
    """Segments in groups of at least ``frames`` distinct pictures, or of 64 segments."""
    group = Group()
    for segment in segments:
        group.add(segment)
        if len(group.images) >= frames or len(group.segments) >= _GROUP:
            yield group
            group = Group()
    if group.segments:
        yield group


def ahead(segments: Iterator[Segment]) -> Iterator[Segment]:
    """The same segments, made a few ahead in a thread of their own; its errors come out here."""
    queue: Queue[Segment | BaseException | None] = Queue(_AHEAD)
    stop = threading.Event()

    def put(item: Segment | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return queue.put(item, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for segment in segments:
                put(segment)
                if stop.is_set():
                    return
            put(None)
        except BaseException as e:
            put(e)

    thread = threading.Thread(target=work, name="avel-decode", daemon=True)
    thread.start()
    try:
        while (item := _next(queue, thread)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _next(
    queue: Queue[Segment | BaseException | None], thread: threading.Thread
) -> Segment | BaseException | None:
    while True:
        try:
            return queue.get(timeout=1.0)
        except Empty:
            if not thread.is_alive() and queue.empty():
                return None
