"""Many files through two networks that never wait: decoding ahead, batches across all borders.

One thread decodes; pictures and sounds are gathered in batches across segments and files; a row of
features is yielded once all of its results are there. This module doesn't import torch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from avel.features.stream import FeatureBlock
from avel.media.file import Media, Segment
from avel.media.mel import NEEDED, RATE
from avel.progress import Progress
from avel.types import Grid

_AHEAD = 8  # segments decoded ahead of the networks
_WAITING = 64  # rows of a file at most that wait for a batch to fill
#: Patches of sound that go through the network together.
AUDIO_BATCH = 16

T = TypeVar("T")
Floats = NDArray[np.float32]
Pictures = NDArray[np.uint8]
#: Opens a file, as :func:`avel.open` does, or raises its error.
Open = Callable[[Any], Media]


@dataclass(frozen=True)
class FileStart:
    """A file was opened: its place among the files, and its segments."""

    file: int
    grid: Grid
    media: Media


@dataclass(frozen=True)
class FileEnd:
    """A file is done, or can't be read (further)."""

    file: int
    error: Exception | None = None


@dataclass(frozen=True)
class Networks:
    """The two backbones, and what they read.

    Args:
        embed_audio: Patches' sounds, each (15600,) float32, -> rows (n, A).
        embed_visual: Pictures, each (224, 224, 3) uint8, or clips of ``frames`` of them, -> rows
            (n, H, W, V).
        audio_shape, visual_shape: Shapes of one row, (A,) and (H, W, V).
        frames: Pictures a segment.
        batch: Pictures, or clips, that go through the network together.
        clip: Whether the visual network reads a segment's pictures together.
        patch_hop: Seconds between the patches of a segment, see :func:`patch_starts`; 0 reads one,
            the segment's beginning.
    """

    embed_audio: Callable[[Sequence[Floats]], Floats]
    embed_visual: Callable[[Sequence[Pictures]], Floats]
    audio_shape: tuple[int, ...]
    visual_shape: tuple[int, ...]
    frames: int
    batch: int
    clip: bool = False
    patch_hop: float = 0.0


def run(
    files: Iterable[Any], open_file: Open, networks: Networks, *, step: float
) -> Iterator[FileStart | FeatureBlock | FileEnd]:
    """Starts, rows and ends of files; rows come in order in each file, ends in order over all.

    Args:
        files: Anything that ``open_file`` opens; read in another thread, as they are needed.
        open_file: Opens one.
        networks: Makes rows.
        step: Seconds a segment.

    Raises:
        Exception: what ``files`` raises, and the networks.
    """
    batches = _Batches(networks)
    for event in ahead(_decoded(files, open_file, frames=networks.frames, step=step)):
        if isinstance(event, FileStart):
            batches.begin(event)
            yield event
        elif isinstance(event, FileEnd):
            yield from batches.end(event)
        else:
            yield from batches.add(*event)
    yield from batches.flush()


def file_blocks(
    media: Media, networks: Networks, *, step: float, progress: Progress | None = None
) -> Iterator[FeatureBlock]:
    """The rows of one file.

    Args:
        media: The file.
        networks: Makes rows.
        step: Seconds a segment.
        progress: Called with segments done and segments in all.

    Raises:
        Exception: what is wrong with the file, and what the networks raise.
    """
    done, count = 0, len(media.grid(step))
    for event in run([media], lambda file: file, networks, step=step):
        if isinstance(event, FileEnd) and event.error is not None:
            raise event.error
        if isinstance(event, FeatureBlock):
            done += len(event)
            if progress is not None:
                progress(done, count)
            yield event


# --- rows ----------------------------------------------------------------------------------------


@dataclass
class _Row:
    """One segment's row, and how many results it still waits for."""

    level: float
    visible: bool
    audio: Floats
    visual: Floats
    waits: int = 0
    patches: int = 1


@dataclass
class _Picture:
    """A picture (or clip) on its way, and its share in each row that shows it."""

    file: int
    image: Pictures
    shares: list[tuple[_Row, float]]
    map: Floats | None = None

    def add_to(self, row: _Row, share: float) -> None:
        """Add its features to one more row, at once where they are computed already."""
        if self.map is None:
            row.waits += 1
            self.shares.append((row, share))
        else:
            row.visual += np.float32(share) * self.map

    def done(self, result: Floats) -> None:
        """Take the network's output."""
        self.map = result
        for row, share in self.shares:
            row.visual += np.float32(share) * result
            row.waits -= 1
        self.shares.clear()


def patch_starts(first: int, stop: int, hop: float) -> list[int]:
    """Where the patches of a segment begin, in samples from the file's start; may be negative.

    Patches of 15600 samples stand ``hop`` seconds apart, as many as fit the segment and at least
    one, around the segment's middle: they reach into its neighbours. Without a hop there is one,
    which begins with the segment.

    Args:
        first, stop: The segment's samples.
        hop: Seconds; 0 for one patch.
    """
    if not hop:
        return [first]
    apart = round(hop * RATE)
    count = max(1, round((stop - first) / apart))
    middle = (first + stop - NEEDED - (count - 1) * apart) // 2
    return [middle + k * apart for k in range(count)]


class _AudioTrack:
    """A file's sound on its way: what is still needed of it, and the patches that wait for more."""

    def __init__(self, hop: float) -> None:
        self._hop = hop
        self._samples = np.zeros(0, np.float32)
        self._first = 0  # the number of the first of these samples
        self._waiting: deque[tuple[_Row, int]] = deque()

    @property
    def _stop(self) -> int:
        return self._first + len(self._samples)

    def add(self, row: _Row, samples: Floats, *, audible: bool) -> Iterator[tuple[_Row, Floats]]:
        """Add a segment's samples; yield the patches that are complete, with their rows."""
        first = self._stop
        self._samples = np.concatenate([self._samples, samples])
        if audible:
            starts = patch_starts(first, self._stop, self._hop)
            row.waits += len(starts)
            row.patches = len(starts)
            self._waiting.extend((row, start) for start in starts)
        yield from self._complete(self._stop if self._hop else None)
        # the next segment's patches reach no further back than a patch and half a hop
        needed = min([start for _, start in self._waiting], default=self._stop - 2 * NEEDED)
        passed = max(0, min(needed, self._stop - 2 * NEEDED) - self._first)
        self._samples, self._first = self._samples[passed:], self._first + passed

    def end(self) -> Iterator[tuple[_Row, Floats]]:
        """The patches that the file's end cuts, silent behind it."""
        yield from self._complete(None)

    def _complete(self, stop: int | None) -> Iterator[tuple[_Row, Floats]]:
        while self._waiting and (stop is None or self._waiting[0][1] + NEEDED <= stop):
            row, start = self._waiting.popleft()
            yield row, self._cut(start)

    def _cut(self, start: int) -> Floats:
        patch = np.zeros(NEEDED, np.float32)
        skip = max(0, -start)  # before the file's start it is silent
        part = self._samples[start + skip - self._first : start + NEEDED - self._first]
        patch[skip : skip + len(part)] = part
        return patch


@dataclass
class _File:
    """A file on its way: the rows not given out yet, its last picture, its end once it came."""

    track: _AudioTrack
    rows: deque[_Row] = field(default_factory=deque)
    last: _Picture | None = None
    end: FileEnd | None = None


class _Batches:
    """Gathers batches from segments of any files, and rows from batches."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._files: dict[int, _File] = {}
        self._pictures: list[_Picture] = []
        self._sounds: list[tuple[_Row, Floats]] = []

    def begin(self, event: FileStart) -> None:
        self._files[event.file] = self._new_file()

    def _new_file(self) -> _File:
        return _File(_AudioTrack(self._networks.patch_hop))

    def add(self, number: int, segment: Segment) -> Iterator[FeatureBlock | FileEnd]:
        """Add a segment of a file; yield the rows and ends that are complete by it."""
        file, networks = self._files[number], self._networks
        row = _Row(
            segment.rms,
            segment.visible,
            np.zeros(networks.audio_shape, np.float32),
            np.zeros(networks.visual_shape, np.float32),
        )
        file.rows.append(row)
        audible = segment.n_samples_present > 0 and bool(segment.audio.any())  # digital silence
        self._sounds += file.track.add(row, segment.audio, audible=audible)
        for image, share in self._images(segment):
            if file.last is None or not np.array_equal(image, file.last.image):
                file.last = _Picture(number, image, [])
                self._pictures.append(file.last)
            file.last.add_to(row, share)
        yield from self._work(full=len(file.rows) >= _WAITING)

    def _images(self, segment: Segment) -> Iterator[tuple[Pictures, float]]:
        """The pictures to compute, equal neighbours once, with their shares of the segment."""
        frames = segment.frames
        if not len(frames):
            return
        if self._networks.clip:
            chosen = np.minimum(np.arange(self._networks.frames), len(frames) - 1)
            yield frames[chosen], 1.0
            return
        first = 0
        for k in range(1, len(frames) + 1):
            if k == len(frames) or not np.array_equal(frames[k], frames[first]):
                yield frames[first], (k - first) / len(frames)
                first = k

    def end(self, event: FileEnd) -> Iterator[FeatureBlock | FileEnd]:
        """A file was decoded to its end, or to its error; the rows before that still come."""
        file = self._files.setdefault(event.file, self._new_file())
        file.end = event
        self._sounds += file.track.end()
        yield from self._complete()

    def flush(self) -> Iterator[FeatureBlock | FileEnd]:
        """All that still waits."""
        yield from self._work(full=True)

    def _work(self, *, full: bool) -> Iterator[FeatureBlock | FileEnd]:
        """Run the batches that are full, or all there is; give out the rows that became whole."""
        ran = False
        while len(self._pictures) >= (1 if full else self._networks.batch):
            self._embed_pictures(self._networks.batch)
            ran = True
        while len(self._sounds) >= (1 if full else AUDIO_BATCH):
            self._embed_sounds(AUDIO_BATCH)
            ran = True
        if ran or full:
            yield from self._complete()

    def _embed_pictures(self, count: int) -> None:
        batch, self._pictures = self._pictures[:count], self._pictures[count:]
        results = self._networks.embed_visual([p.image for p in batch])
        for picture, result in zip(batch, results, strict=True):
            picture.done(result)

    def _embed_sounds(self, count: int) -> None:
        batch, self._sounds = self._sounds[:count], self._sounds[count:]
        results = self._networks.embed_audio([sound for _, sound in batch])
        for (row, _), result in zip(batch, results, strict=True):
            row.audio += result / np.float32(row.patches)
            row.waits -= 1

    def _complete(self) -> Iterator[FeatureBlock | FileEnd]:
        """The rows at the head of each file that wait for nothing, and ends in the files' order."""
        for number, file in list(self._files.items()):
            ready: list[_Row] = []
            while file.rows and not file.rows[0].waits:
                ready.append(file.rows.popleft())
            if ready:
                yield _block(number, ready)
            if file.end is not None and not file.rows and number == next(iter(self._files)):
                del self._files[number]
                yield file.end


def _block(file: int, rows: Sequence[_Row]) -> FeatureBlock:
    return FeatureBlock(
        file=file,
        audio=np.stack([r.audio for r in rows]),
        visual=np.stack([r.visual for r in rows]),
        levels=np.array([r.level for r in rows]),
        visible=np.array([r.visible for r in rows]),
    )


# --- decoding ------------------------------------------------------------------------------------


def _decoded(
    files: Iterable[Any], open_file: Open, *, frames: int, step: float
) -> Iterator[FileStart | FileEnd | tuple[int, Segment]]:
    """Beginnings, segments (with their file's number) and ends of files."""
    for number, file in enumerate(files):
        error: Exception | None = None
        try:
            media = open_file(file)
            yield FileStart(number, media.grid(step), media)
            for segment in media.segments(frames=frames, step=step):
                yield number, segment
        except Exception as e:
            error = e
        yield FileEnd(number, error)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, made a few ahead in a thread of their own; its errors come out here."""
    queue: Queue[T | _Raised | None] = Queue(_AHEAD)
    stop = threading.Event()

    def put(item: T | _Raised | None) -> None:
        while not stop.is_set():
            try:
                return queue.put(item, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as e:
            put(_Raised(e))

    thread = threading.Thread(target=work, name="avel-decode", daemon=True)
    thread.start()
    try:
        while (item := _next(queue, thread)) is not None:
            if isinstance(item, _Raised):
                raise item.error
            yield item
    finally:
        stop.set()
        if threading.current_thread() is not thread:  # which collects what was left half read
            thread.join()


@dataclass(frozen=True)
class _Raised:
    error: BaseException


def _next(queue: Queue[T | _Raised | None], thread: threading.Thread) -> T | _Raised | None:
    while True:
        try:
            return queue.get(timeout=1.0)
        except Empty:
            if not thread.is_alive() and queue.empty():
                return None
