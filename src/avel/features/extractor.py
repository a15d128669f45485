"""From a video to features: decoding in one thread, the networks in another, hand in hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avel.backbones.base import ClipBackbone, default_backbone
from avel.backbones.load import find_backbone
from avel.device import torch_device
from avel.errors import UsageError
from avel.features.logmel import log_mel
from avel.features.network import Network, Precision
from avel.features.pipeline import AUDIO_BATCH, FileStart, Networks, file_blocks, run
from avel.features.stream import FeatureBlock, FeatureStream
from avel.media.altered import Altered
from avel.media.file import Media, opened
from avel.progress import Progress
from avel.types import Features, Grid, Json


def extract(
    video: str | Path | Media,
    *,
    audio: str | None = None,
    visual: str | None = None,
    step: float = 1.0,
    batch: int = 32,
    precision: Precision = "float32",
    progress: Progress | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
    device: str = "auto",
) -> Features:
    """Features of a media file; for many files make an :class:`Extractor` once.

    Args:
        video: A path, or what :func:`avel.open` gave.
        audio, visual: Backbones by name, e.g. ``"vggish"`` and ``"vgg19:torchvision"``; those of
            :func:`avel.backbones.base.default_backbone` if None.
        step: Seconds a segment.
        batch: Frames that go through the visual backbone together.
        precision: As for :class:`Extractor`.
        progress: Called with segments done and segments in all.
        audio_track, video_track: As for :func:`avel.open`; for paths only.
        device: As for :class:`Extractor`.

    Raises:
        MediaError: if the file can't be read.
        UsageError: for unknown names, tracks, devices, and a step or batch out of bounds.
        WeightsError: if weights are missing.
    """
    media = opened(video, audio_track=audio_track, video_track=video_track)
    media.grid(step)  # nonsense is named before heavy work begins
    make = Extractor(
        audio=audio, visual=visual, step=step, batch=batch, precision=precision, device=device
    )  # fmt: skip
    return make(media, progress=progress)


class Extractor:
    """Two backbones, loaded once, that make features of many files.

    Their weights are read when the first file is extracted, in float32: features that are all
    cached need no networks.

    A file's features don't depend on the files and batches they were computed with: on a CPU they
    are the same bits.

    Args:
        audio, visual, step, batch: As for :func:`extract`.
        precision: ``"float32"``; ``"bf16"`` runs both backbones in bfloat16, several times faster
            on processors with units for it, with an error of about 1 %; ``"auto"`` takes the one
            that is faster here, and compiles the visual backbone where that makes all of
            ``media_seconds`` faster (measured once, then remembered in the cache folder). Other
            than float32 is noted in the cards, and in those of features with the measured
            ``error``.
        compile: Whether the visual backbone is compiled at its first batch, which takes 10 to 35 s
            and, on a CPU, a C++ compiler: for corpora.
        media_seconds: Of all files that are to come, about; 0 where it isn't known.
        device: As for :func:`avel.device.check_device`.
        copy: Which altered copy of each file is read (:mod:`avel.media.altered`), from 1; 0 reads
            the file as it is.

    Raises:
        UsageError: for unknown names, and a batch or precision out of bounds.
        WeightsError: if weights are missing.
    """

    def __init__(
        self,
        *,
        audio: str | None = None,
        visual: str | None = None,
        step: float = 1.0,
        batch: int = 32,
        precision: Precision = "float32",
        compile: bool = False,
        media_seconds: float = 0.0,
        device: str = "auto",
        copy: int = 0,
    ) -> None:
        if batch < 1:
            raise UsageError(f"the batch must be at least 1 frame, got {batch}")
        self.device = torch_device(device)
        self.step, self.batch, self.copy = step, batch, copy
        self._precision, self._compile = precision, compile
        self._media_seconds = media_seconds
        self._audio = find_backbone(audio or default_backbone("audio"), modality="audio")
        self._visual = find_backbone(visual or default_backbone("visual"), modality="visual")
        if precision != "float32" or compile:  # what the cards say depends on the networks
            _ = self.audio_network, self.visual_network

    @cached_property
    def audio_network(self) -> Network:
        """The audio backbone as it runs here."""
        card, load = self._audio
        return Network(
            load(), card, precision=self._precision, device=self.device, batch=AUDIO_BATCH
        )

    @cached_property
    def visual_network(self) -> Network:
        """The visual backbone as it runs here."""
        card, load = self._visual
        backbone = load()
        clip, frames = isinstance(backbone, ClipBackbone), max(1, backbone.card.frames)
        return Network(
            backbone,
            card,
            precision=self._precision,
            device=self.device,
            batch=max(1, self.batch // frames) if clip else self.batch,
            compile=self._compile,
            inputs=self._media_seconds / self.step * (1 if clip else frames),
        )

    @property
    def cards(self) -> tuple[Json, Json]:
        """The cards of the audio and the visual backbone as plain data.

        They say what features are comparable with, and are the same in every run; features' own
        cards have the ``error`` of a faster precision besides.
        """
        if self._precision == "float32":
            return self._audio[0], self._visual[0]
        return self.audio_network.card, self.visual_network.card

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """1 - cosine of the audio's and the picture's features, against float32 on real inputs.

        None where a network runs in float32, or has read nothing yet.
        """
        return self.audio_network.error, self.visual_network.error

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
        media = self._opened(video, audio_track=audio_track, video_track=video_track)

        def blocks() -> Iterator[FeatureBlock]:
            for block in file_blocks(media, self._networks, step=self.step, progress=progress):
                stream.audio_card, stream.visual_card = self._measured_cards
                yield block

        stream = self._stream(blocks(), media, media.grid(self.step))
        return stream

    def many(
        self,
        files: Iterable[str | Path | Media],
        *,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Iterator[tuple[Path, Features | Exception]]:
        """Features of many files, in their order; batches cross the files' borders.

        Args:
            files: Read as they are needed, in another thread; what comes out is some files behind,
                where they are short.
            audio_track, video_track: As for :func:`extract`.

        Yields:
            Each file's path with its features, or with what was wrong with it.

        Raises:
            Exception: what ``files`` itself raises, and the networks, which is no file's fault.
        """
        paths: deque[Path] = deque()

        def noted() -> Iterator[str | Path | Media]:
            for file in files:
                paths.append(file.path if isinstance(file, Media) else Path(file))
                yield file

        open_file = partial(self._opened, audio_track=audio_track, video_track=video_track)
        started: dict[int, tuple[FileStart, deque[FeatureBlock]]] = {}
        for event in run(noted(), open_file, self._networks, step=self.step):
            if isinstance(event, FileStart):
                started[event.file] = event, deque()
            elif isinstance(event, FeatureBlock):
                started[event.file][1].append(event)
            elif event.error is not None:
                started.pop(event.file, None)
                yield paths.popleft(), event.error
            else:
                start, blocks = started.pop(event.file)
                stream = self._stream(_drained(blocks), start.media, start.grid)
                yield paths.popleft(), stream.gather()

    def _opened(self, video: str | Path | Media, **tracks: int | None) -> Media:
        """What is read of a file."""
        media = opened(video, **tracks)
        return Altered.of(media, self.copy) if self.copy else media

    def _stream(self, blocks: Iterator[FeatureBlock], media: Media, grid: Grid) -> FeatureStream:
        return FeatureStream(
            blocks,
            grid=grid,
            widths=(
                self.audio_network.backbone.card.output[-1],
                self.visual_network.backbone.card.output[-1],
            ),
            cards=self._measured_cards,
            source=media.path.name,
            notes=media.notes,
        )

    @property
    def _measured_cards(self) -> tuple[Json, Json]:
        return self.audio_network.measured_card, self.visual_network.measured_card

    @property
    def _networks(self) -> Networks:
        visual = self.visual_network.backbone
        return Networks(
            embed_audio=self._embed_audio,
            embed_visual=self._embed_visual,
            audio_shape=self.audio_network.backbone.card.output,
            visual_shape=visual.card.output,
            frames=max(1, visual.card.frames),
            batch=self.visual_network.batch,
            clip=isinstance(visual, ClipBackbone),
            patch_hop=self.audio_network.backbone.card.patch_hop,
        )

    def _embed_audio(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Sounds of patches, each (15600,), -> (n, A).

        Always as many go together, silent ones where there are fewer: a matrix product rounds
        otherwise for another number of rows, and a sound's row shall be the same in any company.
        """
        padded = np.zeros((AUDIO_BATCH, len(sounds[0])), np.float32)
        padded[: len(sounds)] = sounds
        patches = log_mel(
            torch.from_numpy(padded), offset=self.audio_network.backbone.card.log_offset
        )
        return self.audio_network(patches)[: len(sounds)]

    def _embed_visual(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (224, 224, 3), or clips (frames, 224, 224, 3) -> (n, H, W, V)."""
        return self.visual_network(torch.from_numpy(np.stack(pictures)))


def _drained(blocks: deque[FeatureBlock]) -> Iterator[FeatureBlock]:
    """Blocks that are freed as they are read."""
    while blocks:
        yield blocks.popleft()
