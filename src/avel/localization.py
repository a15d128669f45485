"""From scores to events, and the whole sentence: a video file in, its timeline out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avel import clock
from avel.errors import CheckpointError, UsageError
from avel.types import Bools, Event, Json, Scores, Timeline

if TYPE_CHECKING:
    from avel.checkpoint import Trained
    from avel.media import Media

#: Called with segments done and segments in all.
Progress = Callable[[int, int], None]


def to_events(
    scores: Scores,
    *,
    min_length: float = 0.0,
    threshold: float | None = None,
    require_both: bool = True,
) -> list[Event]:
    """The events of a file: runs of segments that a decision gives the same class.

    An event starts and ends at segment edges; its score is the mean probability of its class over
    its segments.

    Args:
        scores: What a model says; ``labels`` holds the decision of the model's own paper.
        min_length: Seconds; shorter events are dropped.
        threshold: None takes the paper's decision, one class a segment. A number in (0, 1] takes
            for every class, background apart, the segments whose probability reaches it: events
            of different classes may then overlap.
        require_both: An audio-visual event is heard *and* seen: segments known to be silent or
            without a picture are background. Without such knowledge nothing is dropped.

    Returns:
        Events in order of time, then of class.

    Raises:
        UsageError: if ``threshold`` or ``min_length`` is out of range.
    """
    check_options(min_length, threshold)
    possible = _possible(scores) if require_both else np.ones(len(scores.grid), dtype=bool)
    found = [
        event
        for class_id in range(len(scores.classes))
        for event in _events_of(scores, class_id, _active(scores, class_id, threshold) & possible)
        if clock.lasts(event.start, event.end, min_length)
    ]
    return sorted(found, key=lambda e: (e.start, e.end, scores.classes.index(e.label)))


def check_options(min_length: float, threshold: float | None) -> None:
    """Refuse a minimal length or a threshold that makes no sense, before any work is done."""
    if not (math.isfinite(min_length) and min_length >= 0):
        raise UsageError(f"minimal length {min_length}", wanted="seconds >= 0")
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold}", wanted="a probability above 0 and up to 1")


def _possible(scores: Scores) -> Bools:
    possible = np.ones(len(scores.grid), dtype=bool)
    for known in (scores.audible, scores.visible):
        if known is not None:
            possible &= known
    return possible


def _active(scores: Scores, class_id: int, threshold: float | None) -> Bools:
    if threshold is None:
        return np.asarray(scores.labels == class_id)
    return np.asarray(scores.values[:, class_id] >= threshold)


def _events_of(scores: Scores, class_id: int, active: Bools) -> Iterator[Event]:
    for first, stop, on in clock.runs(active.tolist()):
        if not on:
            continue
        start, end = scores.grid.bounds(first)[0], scores.grid.bounds(stop - 1)[1]
        score = float(np.mean(scores.values[first:stop, class_id], dtype=np.float64))
        if end > start:
            yield Event(start, end, scores.classes[class_id], min(max(score, 0.0), 1.0))


class Localizer:
    """A model with its two backbones, loaded once, that localizes many files.

    Args:
        model: As for :func:`localize`.

    Raises:
        CheckpointError: if the model can't be read.
            It is refused too if it was trained on other weights of its backbones than are here.
        WeightsError: if a backbone's weights are missing.
    """

    def __init__(self, model: str | Path | Trained = "default") -> None:
        from avel.checkpoint import load_model
        from avel.features import Extractor

        self.trained = load_model(model) if isinstance(model, str | Path) else model
        self._extract = Extractor(
            audio=_backbone(self.trained.audio_card),
            visual=_backbone(self.trained.visual_card),
            step=self.trained.step,
        )
        _check_backbones(self.trained, self._extract.cards)

    def __call__(
        self,
        video: str | Path,
        *,
        min_length: float = 0.0,
        threshold: float | None = None,
        require_both: bool = True,
        audio_track: int | None = None,
        video_track: int | None = None,
        progress: Progress | None = None,
    ) -> Timeline:
        """The timeline of one file; arguments and errors as for :func:`localize`."""
        from avel.media import open_media

        check_options(min_length, threshold)
        media = open_media(video, audio_track=audio_track, video_track=video_track)
        features = self._extract.stream(media, progress=progress)
        scores = self.trained.predict(features)
        events = to_events(
            scores, min_length=min_length, threshold=threshold, require_both=require_both
        )
        return Timeline(
            video=str(video),
            events=tuple(events),
            duration=media.duration,
            classes=scores.classes,
            scores=scores,
            model=self.trained.card,
            notes=tuple(_notes(media, scores)),
        )


def _check_backbones(trained: Trained, cards: tuple[Json, Json]) -> None:
    """Refuse a model whose backbones have other weights by now, before any file is read."""
    from avel.scoring import backbone_name

    for own, here in zip((trained.audio_card, trained.visual_card), cards, strict=True):
        if own.get("hash") != here.get("hash"):
            raise CheckpointError(
                f"the model was trained on features of {backbone_name(own)}",
                wanted=f"those of {backbone_name(here)}, the weights that are here",
                do="train it again on features extracted with these, or bring back the old weights",
            )


def _backbone(card: Json) -> str:
    """The option that chooses a card's backbone: ``name:weights``."""
    name, weights = str(card.get("name", "")), str(card.get("weights", ""))
    return f"{name}:{weights}" if weights else name


def _notes(media: Media, scores: Scores) -> Iterator[str]:
    """What a reader of the events must know of the file, a sentence each."""
    if media.audio is None:
        yield "The file has no sound that can be read, so nothing in it is both seen and heard."
    elif scores.audible is not None and not scores.audible.any():
        yield "The sound is silent, so nothing in the file is both seen and heard."
    if media.video is None:
        yield "The file has no picture that can be read, so nothing in it is both seen and heard."
    if media.duration < scores.grid.step:
        yield f"The file is shorter than one segment of {scores.grid.step:g} s."
    said_above = ("the file has no sound", "the file has no picture")
    yield from (_sentence(n) for n in media.notes if not n.lower().startswith(said_above))


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")


def localize(
    video: str | Path,
    *,
    model: str | Path | Trained = "default",
    min_length: float = 0.0,
    threshold: float | None = None,
    require_both: bool = True,
    audio_track: int | None = None,
    video_track: int | None = None,
    progress: Progress | None = None,
) -> Timeline:
    """Find the audio-visual events of a video file: the whole sentence.

    The file is cut into segments of the model's step, the backbones the model was trained on make
    features of them, the model scores them in overlapping windows (so any length will do), and
    :func:`to_events` decides. For many files make a :class:`Localizer` once.

    Args:
        video: Path of the file.
        model: A run's folder or checkpoint, ``"default"`` for the one that ships with avel, or a
            model loaded already with :func:`avel.load_model`.
        min_length, threshold, require_both: As in :func:`to_events`.
        audio_track, video_track: Which track to read where the file has several, by its number in
            the file; the one marked as default if None.
        progress: Called with segments done and segments in all.

    Returns:
        The timeline; its ``notes`` say what was missing or damaged.

    Raises:
        MediaError: if the file can't be opened or holds neither sound nor picture.
        CheckpointError: if the model can't be read.
        WeightsError: if a backbone's weights are missing.
        UsageError: for options out of range and tracks the file doesn't have.
    """
    return Localizer(model)(
        video,
        min_length=min_length,
        threshold=threshold,
        require_both=require_both,
        audio_track=audio_track,
        video_track=video_track,
        progress=progress,
    )
