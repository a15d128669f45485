"""From a video to features: decoding in one thread, the networks in another, hand in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones import ClipBackbone, load_backbone
from avel.errors import UsageError
from avel.features.logmel import log_mel
from avel.media import Media, Segment, open_media
from avel.types import Bools, Features, Grid, Json

#: Called with segments done and segments in all.
Progress = Callable[[int, int], None]
Precision = Literal["float32", "bf16"]

#: A segment is audible above this level (dBFS) and within this of the file's loudest (dB).
AUDIBLE_ABOVE, AUDIBLE_WITHIN = -50.0, 20.0
_AHEAD = 8  # segments decoded ahead of the networks
_GROUP = 64  # segments at most that wait for the networks together


def extract(
    video: str | Path | Media,
    *,
    audio: str = "mini_audio",
    visual: str = "mini_visual",
    step: float = 1.0,
    batch: int = 32,
    progress: Progress | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Features:
    """Features of a media file; for many files make an :class:`Extractor` once.

    Args:
        video: A path, or what :func:`avel.open` gave.
        audio, visual: Backbones by name, e.g. ``"vggish"`` and ``"vgg19:torchvision"``.
        step: Seconds a segment.
        batch: Frames that go through the visual backbone together.
        progress: Called with segments done and segments in all.
        audio_track, video_track: As for :func:`avel.open`; for paths only.

    Raises:
        MediaError: if the file can't be read.
        UsageError: for unknown names, tracks, and a step or batch out of bounds.
        WeightsError: if weights are missing.
    """
    media = _opened(video, audio_track, video_track)
    media.grid(step)  # nonsense is named before heavy work begins
    make = Extractor(audio=audio, visual=visual, step=step, batch=batch)
    return make(media, progress=progress)


def _opened(video: str | Path | Media, audio_track: int | None, video_track: int | None) -> Media:
    if not isinstance(video, Media):
        return open_media(video, audio_track=audio_track, video_track=video_track)
    if audio_track is not None or video_track is not None:
        raise UsageError("a track for a file that is open", do="choose it in avel.open")
    return video


class Extractor:
    """Two backbones, loaded once, that make features of many files.

    Args:
        audio, visual, step, batch: As for :func:`extract`.
        precision: ``"bf16"`` runs the visual backbone in bfloat16, several times faster on
            processors with units for it, with an error of about 1 %; noted in the visual card.
        device: A torch device; ``"auto"`` takes a GPU where there is one.
    """

    def __init__(
        self,
        *,
        audio: str = "mini_audio",
        visual: str = "mini_visual",
        step: float = 1.0,
        batch: int = 32,
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        if batch < 1:
            raise UsageError(f"a batch of {batch} frames", wanted="at least 1")
        self.step, self.batch, self.precision = step, batch, precision
        cuda = device == "auto" and torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu" if device == "auto" else device)
        self._audio, self.audio_card = load_backbone(audio, modality="audio")
        self._visual, self.visual_card = load_backbone(visual, modality="visual")
        self._audio.to(self.device)
        self._visual.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision != "float32":
            self.visual_card = {**self.visual_card, "precision": precision}

    @property
    def cards(self) -> tuple[Json, Json]:
        """The cards of the audio and the visual backbone as plain data."""
        return self.audio_card, self.visual_card

    def __call__(
        self,
        video: str | Path | Media,
        *,
        progress: Progress | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Features:
        """Features of one file; arguments and errors as for :func:`extract`."""
        return self.stream(
            video, progress=progress, audio_track=audio_track, video_track=video_track
        ).gather()

    def stream(
        self,
        video: str | Path | Media,
        *,
        progress: Progress | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> FeatureStream:
        """The same a few segments at a time, so that hours need no more memory than minutes.

        Arguments as for :func:`extract`. What goes wrong in reading comes up while it is read.
        """
        media = _opened(video, audio_track, video_track)
        grid = media.grid(self.step)
        return FeatureStream(
            self._blocks(media, grid, progress),
            grid=grid,
            widths=(self._audio.card.output[-1], self._visual.card.output[-1]),
            cards=self.cards,
            source=media.path.name,
        )

    def _blocks(self, media: Media, grid: Grid, progress: Progress | None) -> Iterator[Block]:
        segments = media.segments(frames=max(1, self._visual.card.frames), step=self.step)
        done = 0
        for group in _groups(_ahead(segments), frames=self.batch):
            count = len(group.segments)
            block = Block.of(count, self._audio.card.output, self._visual.card.output)
            self._fill(block, group)
            done += count
            if progress is not None:
                progress(done, len(grid))
            yield block

    @torch.inference_mode()
    def _fill(self, block: Block, group: _Group) -> None:
        for segment in group.segments:
            block.levels[segment.index] = segment.rms
            block.visible[segment.index] = segment.visible
        heard = [s for s in group.segments if s.n_samples_present]
        if heard:
            samples = torch.from_numpy(np.stack([s.audio for s in heard]))
            rows = self._audio(log_mel(samples).to(self.device))
            block.audio[[s.index for s in heard]] = rows.float().cpu().numpy()
        if isinstance(self._visual, ClipBackbone):
            self._watch(block, [s for s in group.segments if s.visible])
            return
        for first in range(0, len(group.images), self.batch):
            maps = self._see(group.images[first : first + self.batch])
            for one, shares in zip(maps, group.shares[first : first + self.batch], strict=True):
                for index, share in shares.items():
                    block.visual[index] += share * one

    def _watch(self, block: Block, segments: list[Segment]) -> None:
        """Segments whose frames go through the network together, short ones held at their end."""
        wanted, together = self._visual.card.frames, max(1, self.batch // self._visual.card.frames)
        for first in range(0, len(segments), together):
            some = segments[first : first + together]
            clips = [s.frames[np.minimum(np.arange(wanted), len(s.frames) - 1)] for s in some]
            block.visual[[s.index for s in some]] = self._see(clips)

    def _see(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, 224, 224, 3) pictures, or (n, frames, 224, 224, 3) clips -> (n, H, W, V) maps."""
        pictures = torch.from_numpy(np.stack(images)).to(self.device)
        fast = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
            maps: Tensor = self._visual(pictures)
        array: NDArray[np.float32] = maps.float().cpu().numpy()
        return array


def audible(levels: NDArray[np.floating]) -> Bools:
    """(T,) True where a segment is above -50 dBFS and within 20 dB of the file's loudest.

    Args:
        levels: (T,) dBFS.
    """
    floor = max(AUDIBLE_ABOVE, float(levels.max(initial=-np.inf)) - AUDIBLE_WITHIN)
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

    Only what says which segments are audible and visible is kept of what was read; that is known
    once all was read.

    Args:
        blocks: The rows.
        grid: The file's segments.
        widths: A and V.
        cards: The cards of the audio and the visual backbone.
        source: Name of the file, without its folder.
    """

    def __init__(
        self,
        blocks: Iterator[Block],
        *,
        grid: Grid,
        widths: tuple[int, int],
        cards: tuple[Json, Json],
        source: str = "",
    ) -> None:
        self.grid, self.widths, self.source = grid, widths, source
        self.audio_card, self.visual_card = cards
        self.visible: Bools = np.zeros(len(grid), bool)
        self._blocks = blocks
        self._levels = np.full(len(grid), -np.inf)

    def __len__(self) -> int:
        return len(self.grid)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        first = 0
        for block in self._blocks:
            stop = first + len(block.audio)
            self._levels[first:stop] = block.levels
            self.visible[first:stop] = block.visible
            first = stop
            yield block.audio, block.visual

    @property
    def audible(self) -> Bools:
        """(T,) True where a segment is loud enough; see :func:`audible`."""
        return audible(self._levels)

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
class _Group:
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


def _groups(segments: Iterator[Segment], *, frames: int) -> Iterator[_Group]:
    """Segments in groups of at least ``frames`` distinct pictures, or of 64 segments."""
    group = _Group()
    for segment in segments:
        group.add(segment)
        if len(group.images) >= frames or len(group.segments) >= _GROUP:
            yield group
            group = _Group()
    if group.segments:
        yield group


def _ahead(segments: Iterator[Segment]) -> Iterator[Segment]:
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
