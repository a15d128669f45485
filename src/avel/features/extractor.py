"""From a video to features: decoding in one thread, the networks in another, hand in hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avel.backbones import ClipBackbone, load_backbone
from avel.errors import UsageError
from avel.features.logmel import log_mel
from avel.features.stream import Block, FeatureStream, Group, Progress, ahead, groups
from avel.media import Media, Segment, open_media
from avel.types import Features, Grid, Json

Precision = Literal["auto", "float32", "bf16"]


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

    def many(
        self,
        files: Iterable[str | Path | Media],
        *,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Iterator[tuple[Path, Features | Exception]]:
        """Features of many files, in their order, without the networks ever waiting for one.

        Args:
            files: Read as they are needed, a few files ahead of what comes out, in another thread.
            audio_track, video_track: As for :func:`extract`.

        Yields:
            Each file's path with its features, or with what was wrong with it.

        Raises:
            Exception: what ``files`` itself raises, and what isn't a file's fault.
        """
        for file in files:
            path = file.path if isinstance(file, Media) else Path(file)
            try:
                yield path, self(file, audio_track=audio_track, video_track=video_track)
            except Exception as e:
                yield path, e

    def _blocks(self, media: Media, grid: Grid, progress: Progress | None) -> Iterator[Block]:
        segments = media.segments(frames=max(1, self._visual.card.frames), step=self.step)
        done = 0
        for group in groups(ahead(segments), frames=self.batch):
            count = len(group.segments)
            block = Block.of(count, self._audio.card.output, self._visual.card.output)
            self._fill(block, group)
            done += count
            if progress is not None:
                progress(done, len(grid))
            yield block

    @torch.inference_mode()
    def _fill(self, block: Block, group: Group) -> None:
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
