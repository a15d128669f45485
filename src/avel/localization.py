"""From scores to events, and the whole sentence: a video file in, its timeline out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avel import clock
from avel.errors import UsageError
from avel.types import Bools, Event, Json, Scores, Timeline

if TYPE_CHECKING:
    from avel.features import FeatureStream
    from avel.features.cache import Facts
    from avel.features.network import Precision
    from avel.scoring import Scorer, Scoring

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
    every = range(len(scores.grid))
    found = _runs(scores, every, threshold=threshold, require_both=require_both)
    return [e for e in found if clock.lasts(e.start, e.end, min_length)]


def _runs(
    scores: Scores, segments: range, *, threshold: float | None, require_both: bool
) -> list[Event]:
    """The events of some consecutive segments, of any length, in order of time, then of class."""
    place = slice(segments.start, segments.stop)
    possible = _possible(scores)[place] if require_both else np.ones(len(segments), dtype=bool)
    found = [
        event
        for class_id in range(len(scores.classes))
        for event in _events_of(
            scores, class_id, _active(scores, class_id, threshold)[place] & possible, place.start
        )
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


def _events_of(scores: Scores, class_id: int, active: Bools, offset: int) -> Iterator[Event]:
    for begin, end, on in clock.runs(active.tolist()):
        if not on:
            continue
        first, stop = begin + offset, end + offset
        seconds = scores.grid.bounds(first)[0], scores.grid.bounds(stop - 1)[1]
        score = float(np.mean(scores.values[first:stop, class_id], dtype=np.float64))
        if seconds[1] > seconds[0]:
            yield Event(*seconds, scores.classes[class_id], min(max(score, 0.0), 1.0))


class Localizer:
    """A model with its two backbones, loaded once, that localizes many files.

    Args:
        model: As for :func:`localize`.
        cache: True keeps the features of every file in the cache folder, so that another model on
            the same file costs only itself; see :mod:`avel.features.cache`.
        precision: Of the backbones, as for :class:`avel.features.Extractor`.

    Raises:
        CheckpointError: if the model can't be read.
            It is refused too if it was trained on other weights of its backbones than are here.
        WeightsError: if a backbone's weights are missing.
    """

    def __init__(
        self,
        model: str | Path | Scorer = "default",
        *,
        cache: bool = False,
        precision: Precision = "float32",
    ) -> None:
        self.cache = cache
        self.model = _load(model) if isinstance(model, str | Path) else model
        self._extract = self.model.extractor(precision=precision)

    def __call__(self, video: str | Path, **options: Any) -> Timeline:
        """The timeline of one file; options and errors as for :func:`localize`."""
        return self._begin(video, ahead=False, **options).timeline()

    def stream(self, video: str | Path, **options: Any) -> EventStream:
        """The events of one file as they become final; options and errors as for :func:`localize`.

        A segment is audible if it is near the file's loudest, which only the whole sound tells: it
        is gone through first (a small part of the work). So nothing that was said changes later,
        and the timeline in the end is the one of :meth:`__call__`.
        """
        return self._begin(video, ahead=True, **options)

    def _begin(
        self,
        video: str | Path,
        *,
        ahead: bool,
        min_length: float = 0.0,
        threshold: float | None = None,
        require_both: bool = True,
        audio_track: int | None = None,
        video_track: int | None = None,
        progress: Progress | None = None,
    ) -> EventStream:
        check_options(min_length, threshold)
        tracks = {"audio_track": audio_track, "video_track": video_track}
        features, facts = self._features(video, tracks, progress, ahead=ahead and require_both)
        return EventStream(
            str(video),
            self.model.scoring(features),
            facts,
            card=self.model.card,
            min_length=min_length,
            threshold=threshold,
            require_both=require_both,
        )

    def _features(
        self,
        video: str | Path,
        tracks: dict[str, int | None],
        progress: Progress | None,
        *,
        ahead: bool,
    ) -> tuple[FeatureStream, Callable[[], Facts]]:
        """The features of a file, kept or made, and what is known of it once they were read."""
        from avel.features import cache

        entry = None
        if self.cache and cache.largest():
            entry = cache.entry_path(video, self._extract, **tracks)
        if entry is not None:
            held = cache.kept(entry, source=Path(video).name, progress=progress)
            if held is not None:
                return held[0], lambda: held[1]
        from avel.media import open_media

        media = open_media(video, **tracks)
        features = self._extract.stream(media, progress=progress)
        if ahead:
            features.loudest = media.loudest(self.model.step)
        if entry is not None:
            features = cache.keeping(features, entry, media)
        return features, lambda: cache.Facts.of(media)


class EventStream:
    """The events of a file as they become final; :meth:`timeline` has all of them in order.

    Args:
        video: The file as it was named.
        scoring: Its scores in the making.
        facts: Tells what is known of the file, once it was read.
        card: The model's.
        min_length, threshold, require_both: As in :func:`to_events`.
    """

    def __init__(
        self,
        video: str,
        scoring: Scoring,
        facts: Callable[[], Facts],
        *,
        card: Json,
        min_length: float,
        threshold: float | None,
        require_both: bool,
    ) -> None:
        self.video, self.card, self.min_length = video, card, min_length
        self.threshold, self.require_both = threshold, require_both
        self._scoring, self._facts = scoring, facts
        self._steps = iter(scoring)

    def __iter__(self) -> Iterator[Event]:
        """Every event once, as soon as no later second can change it: in order of their ends."""
        first, said = 0, 0.0  # no event that is still to be said begins before, or ends before
        for ready in self._steps:
            scores = self._scoring.scores()
            found = _runs(
                scores,
                range(first, ready),
                threshold=self.threshold,
                require_both=self.require_both,
            )
            edge = scores.grid.bounds(ready - 1)[1] if ready < len(scores.grid) else math.inf
            for event in sorted(found, key=lambda e: e.end):
                long = clock.lasts(event.start, event.end, self.min_length)
                if long and said <= event.end < edge:
                    yield event
            going_on = [clock.segment_at(e.start, scores.grid.step) for e in found if e.end >= edge]
            first, said = min([ready, *going_on]), edge

    def timeline(self) -> Timeline:
        """The timeline of the whole file; what wasn't iterated yet is gone through first."""
        for _ in self._steps:
            pass
        scores, facts = self._scoring.scores(), self._facts()
        events = to_events(
            scores,
            min_length=self.min_length,
            threshold=self.threshold,
            require_both=self.require_both,
        )
        return Timeline(
            video=self.video,
            events=tuple(events),
            duration=scores.grid.duration,
            classes=scores.classes,
            scores=scores,
            model=self.card,
            notes=tuple(_notes(facts, scores)),
        )


def _load(model: str | Path) -> Scorer:
    """A model from its folder, by its name, or from an exported file."""
    if Path(model).suffix.lower() == ".onnx":
        from avel.runtime import load_onnx

        return load_onnx(model)
    from avel.checkpoint import load_model

    return load_model(model)


def _notes(facts: Facts, scores: Scores) -> Iterator[str]:
    """What a reader of the events must know of the file, a sentence each."""
    if not facts.heard:
        yield "The file has no sound that can be read, so nothing in it is both seen and heard."
    elif scores.audible is not None and not scores.audible.any():
        yield "The sound is silent, so nothing in the file is both seen and heard."
    if not facts.seen:
        yield "The file has no picture that can be read, so nothing in it is both seen and heard."
    if scores.grid.duration < scores.grid.step:
        yield f"The file is shorter than one segment of {scores.grid.step:g} s."
    said_above = ("the file has no sound", "the file has no picture")
    yield from (_sentence(n) for n in facts.notes if not n.lower().startswith(said_above))


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")


def localize(
    video: str | Path,
    *,
    model: str | Path | Scorer = "default",
    min_length: float = 0.0,
    threshold: float | None = None,
    require_both: bool = True,
    audio_track: int | None = None,
    video_track: int | None = None,
    progress: Progress | None = None,
    cache: bool = False,
    precision: Precision = "float32",
) -> Timeline:
    """Find the audio-visual events of a video file: the whole sentence.

    The file is cut into segments of the model's step, the backbones the model was trained on make
    features of them, the model scores them in overlapping windows (so any length will do), and
    :func:`to_events` decides. For many files make a :class:`Localizer` once.

    Args:
        video: Path of the file.
        model: A run's folder or checkpoint, an exported ``.onnx`` file, ``"default"`` for the one
            that ships with avel, or a model loaded already with :func:`avel.load_model`.
        min_length, threshold, require_both: As in :func:`to_events`.
        audio_track, video_track: Which track to read where the file has several, by its number in
            the file; the one marked as default if None.
        progress: Called with segments done and segments in all.
        cache, precision: As for :class:`Localizer`.

    Returns:
        The timeline; its ``notes`` say what was missing or damaged.

    Raises:
        MediaError: if the file can't be opened or holds neither sound nor picture.
        CheckpointError: if the model can't be read.
        WeightsError: if a backbone's weights are missing.
        UsageError: for options out of range and tracks the file doesn't have.
    """
    return Localizer(model, cache=cache, precision=precision)(
        video,
        min_length=min_length,
        threshold=threshold,
        require_both=require_both,
        audio_track=audio_track,
        video_track=video_track,
        progress=progress,
    )


def stream_events(
    video: str | Path,
    *,
    model: str | Path | Scorer = "default",
    cache: bool = False,
    precision: Precision = "float32",
    **options: Any,
) -> EventStream:
    """The events of a video file one by one, the first while the rest is still read.

    >>> for event in stream_events("street.mp4"):  # doctest: +SKIP
    ...     print(event)

    Args:
        video, model, cache, precision: As for :func:`localize`.
        options: Its others.

    Returns:
        The events in order of their ends, each as soon as it can't change any more; the object's
        ``timeline()`` then gives what :func:`localize` gives.

    Raises:
        MediaError, CheckpointError, WeightsError, UsageError: As :func:`localize`.
    """
    return Localizer(model, cache=cache, precision=precision).stream(video, **options)
