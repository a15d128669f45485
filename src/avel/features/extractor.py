"""From a video to features: decoding in one thread, the networks in another, hand in hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avel.backbones.base import ClipBackbone, default_backbone
from avel.backbones.load import load_backbone
from avel.device import torch_device
from avel.errors import UsageError
from avel.features.logmel import log_mel
from avel.features.network import Network, Precision
from avel.features.pipeline import SOUNDS, Begun, Ended, Networks, Rows, run
from avel.features.stream import FeatureBlock, FeatureStream, Progress
from avel.media.file import Media, opened
from avel.types import Features, Grid, Json

__all__ = ["Extractor", "Precision", "Progress", "extract"]


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

    A file's features don't depend on the files and batches they were computed with: on a CPU they
    are the same bits.

    Args:
        audio, visual, step, batch: As for :func:`extract`.
        precision: ``"float32"``; ``"bf16"`` runs both backbones in bfloat16, several times faster
            on processors with units for it, with an error of about 1 %; ``"auto"`` takes the one
            that is faster here (measured once, then remembered in the cache folder). Other than
            float32 is noted in the cards, and in those of features with the measured ``error``.
        compile: Whether the visual backbone is compiled at its first batch, which takes 10 to 35 s
            and, on a CPU, a C++ compiler: for corpora.
        device: As for :func:`avel.device.check_device`.

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
        device: str = "auto",
    ) -> None:
        if batch < 1:
            raise UsageError(f"a batch of {batch} frames", expected="at least 1")
        self.device = torch_device(device)
        self.step, self.batch = step, batch
        hearing, card = load_backbone(audio or default_backbone("audio"), modality="audio")
        self.hearing = Network(hearing, card, precision=precision, device=self.device, batch=SOUNDS)
        seeing, card = load_backbone(visual or default_backbone("visual"), modality="visual")
        self._clip = isinstance(seeing, ClipBackbone)
        self._frames = max(1, seeing.card.frames)
        self.seeing = Network(
            seeing,
            card,
            precision=precision,
            device=self.device,
            batch=max(1, batch // self._frames) if self._clip else batch,
            compiled=compile,
        )

    @property
    def cards(self) -> tuple[Json, Json]:
        """The cards of the audio and the visual backbone as plain data.

        They say what features are comparable with, and are the same in every run; features' own
        cards have the ``error`` of a faster precision besides.
        """
        return self.hearing.card, self.seeing.card

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """1 - cosine of the audio's and the picture's features, against float32 on real inputs.

        None where a network runs in float32, or has read nothing yet.
        """
        return self.hearing.error, self.seeing.error

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
        media = opened(video, audio_track=audio_track, video_track=video_track)
        grid = media.grid(self.step)

        def blocks() -> Iterator[FeatureBlock]:
            done = 0
            for event in run([media], _itself, self._networks, step=self.step):
                if isinstance(event, Ended) and event.error is not None:
                    raise event.error
                if isinstance(event, Rows):
                    stream.audio_card, stream.visual_card = self._measured_cards
                    done += len(event.block.audio)
                    if progress is not None:
                        progress(done, len(grid))
                    yield event.block

        stream = self._stream(blocks(), media, grid)
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

        open_file = partial(opened, audio_track=audio_track, video_track=video_track)
        going: dict[int, tuple[Begun, deque[FeatureBlock]]] = {}
        for event in run(noted(), open_file, self._networks, step=self.step):
            if isinstance(event, Begun):
                going[event.file] = event, deque()
            elif isinstance(event, Rows):
                going[event.file][1].append(event.block)
            elif event.error is not None:
                going.pop(event.file, None)
                yield paths.popleft(), event.error
            else:
                begun, rows = going.pop(event.file)
                stream = self._stream(_drained(rows), begun.media, begun.grid)
                yield paths.popleft(), stream.gather()

    def _stream(self, blocks: Iterator[FeatureBlock], media: Media, grid: Grid) -> FeatureStream:
        return FeatureStream(
            blocks,
            grid=grid,
            widths=(self.hearing.backbone.card.output[-1], self.seeing.backbone.card.output[-1]),
            cards=self._measured_cards,
            source=media.path.name,
            notes=media.notes,
        )

    @property
    def _measured_cards(self) -> tuple[Json, Json]:
        return self.hearing.measured_card, self.seeing.measured_card

    @property
    def _networks(self) -> Networks:
        return Networks(
            hear=self._hear,
            see=self._see,
            audio=self.hearing.backbone.card.output,
            visual=self.seeing.backbone.card.output,
            frames=self._frames,
            batch=self.seeing.batch,
            clip=self._clip,
            patch_hop=self.hearing.backbone.card.patch_hop,
        )

    def _hear(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Sounds of patches, each (15600,), -> (n, A).

        Always as many go together, silent ones where there are fewer: a matrix product rounds
        otherwise for another number of rows, and a sound's row shall be the same in any company.
        """
        padded = np.zeros((SOUNDS, len(sounds[0])), np.float32)
        padded[: len(sounds)] = sounds
        patches = log_mel(torch.from_numpy(padded), offset=self.hearing.backbone.card.log_offset)
        return self.hearing(patches)[: len(sounds)]

    def _see(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (224, 224, 3), or clips (frames, 224, 224, 3) -> (n, H, W, V)."""
        return self.seeing(torch.from_numpy(np.stack(pictures)))


def _itself(media: object) -> Media:
    assert isinstance(media, Media)
    return media


def _drained(blocks: deque[FeatureBlock]) -> Iterator[FeatureBlock]:
    while blocks:
        yield blocks.popleft()
