"""From scores to events, and from a video file to its timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avel import clock
from avel.errors import UsageError
from avel.features.cache import Facts, features_of
from avel.inference.decision import Decision, gap_segments, masks, possible, soften, spans
from avel.media.downmix import SILENT
from avel.progress import Progress
from avel.types import (
    CHOICES,
    MODALITIES,
    Bools,
    Choice,
    Event,
    EventModality,
    Features,
    Floats,
    Json,
    Scores,
    Timeline,
    check_choice,
)

if TYPE_CHECKING:
    from avel.features.network import Precision
    from avel.inference.predictor import Predictor, Scoring
    from avel.media.file import Media

    #: A file by its path, probed already, or by its features.
    Video = str | Path | Media | Features

#: Called with segments done and segments in all.


def to_events(
    scores: Scores,
    *,
    decision: Decision | None = None,
    threshold: float | None = None,
    low_threshold: float | None = None,
    min_duration: float | None = None,
    max_gap: float | None = None,
    require_both: bool = True,
    modality: EventModality = "both",
) -> list[Event]:
    """The events of a file: runs of segments that a decision gives the same class.

    An event starts and ends at segment edges; its score is the mean probability of its class over
    its segments. Of an audio-visual event ``audio_weight`` and ``lag`` are means over them, too.

    With ``modality="audio"`` the events are what is audible but not visible: the segments where a
    class's ``audio_scores`` reach the decision's ``audio_threshold``, its ``visual_scores`` don't
    reach the ``visual_threshold`` (or are NaN), and it is no audio-visual event. The hysteresis,
    the gaps that are bridged and the smallest length are those of the class; an audio-visual event
    always ends such a run. What is left beside an audio-visual event of the class (no further
    apart than ``max_gap``) is taken as that event's blurred edge and left out if it lasts no longer
    than a segment or than ``max_gap``; longer ones are kept, so that a voice goes on off screen.
    ``modality="visual"`` is the same the other way round. Scores of a model that doesn't tell the
    modalities apart have no such events.

    Args:
        scores: A model's scores; ``labels`` holds the decision of the model's own paper.
        decision: Thresholds, hysteresis, gaps to bridge and smallest lengths, for all classes or
            each; None takes the paper's decision, one class a segment. The other arguments change
            it. Its temperature was applied when the scores were made by a localizer; here it is
            with :meth:`avel.Decision.calibrated`.
        threshold: A number in (0, 1] takes for every class, background apart, the segments whose
            probability reaches it: events of different classes may then overlap.
        low_threshold: Hysteresis: an event goes on, both ways, while the probability is at least
            this.
        min_duration: Seconds; shorter events are dropped.
        max_gap: Seconds; gaps no longer than this between two events of a class are bridged.
        require_both: An audio-visual event is heard *and* seen: segments known to be silent or
            without a picture are background. Without such knowledge nothing is dropped. What is
            only audible is dropped in silence alone, what is only visible where no picture is.
        modality: ``"both"``, ``"audio"`` or ``"visual"``.

    Returns:
        Events in order of time, then of class; each has the ``modality``.

    Raises:
        UsageError: if a value is out of range.
    """
    check_choice(modality, MODALITIES)
    chosen = (decision or Decision()).override(
        threshold=threshold,
        low_threshold=low_threshold,
        min_duration=min_duration,
        max_gap=max_gap,
        require_both=require_both,
    )
    find = _audio_visual if modality == "both" else partial(_of_one, modality=modality)
    events = [
        event for class_id in range(len(scores.classes)) for event in find(scores, class_id, chosen)
    ]
    ids = {name: i for i, name in enumerate(scores.classes)}
    return sorted(events, key=lambda e: (e.start, e.end, ids[e.label]))


def _audio_visual(scores: Scores, class_id: int, decision: Decision) -> list[Event]:
    """A class's audio-visual events of the whole file."""
    least = decision.of(scores.classes[class_id]).min_duration
    events, _ = _events_of(scores, class_id, decision, slice(0, len(scores.grid)))
    return [e for e in events if clock.lasts(e.start, e.end, least)]


def _of_one(
    scores: Scores, class_id: int, decision: Decision, *, modality: Literal["audio", "visual"]
) -> list[Event]:
    """A class's events that are only audible, or only visible: see :func:`to_events`."""
    name, step = scores.classes[class_id], scores.grid.step
    rule, at_least = decision.of(name), getattr(decision, f"{modality}_threshold")
    probabilities = getattr(scores, f"{modality}_scores")
    if probabilities is None or not (probabilities[:, class_id] >= at_least).any():
        return []
    low_threshold = None if rule.low_threshold is None else min(rule.low_threshold, at_least)
    taken = np.zeros(len(probabilities), dtype=bool)
    for event in _audio_visual(scores, class_id, decision):
        taken[slice(*_segments_of(event, scores))] = True
    seeds, over = masks(
        probabilities[:, class_id],
        taken,
        replace(rule, threshold=at_least, low_threshold=low_threshold),
        _alone(scores, class_id, decision, modality) & ~taken,
    )
    gap, alone = gap_segments(rule, step), np.zeros(len(probabilities), dtype=bool)
    for first, stop in zip(*spans(seeds, over, max_gap=gap), strict=True):
        alone[first:stop] = True
    events: list[Event] = []
    for first, stop, on in clock.runs((alone & ~taken).tolist()):
        beside = taken[max(0, first - gap - 1) : stop + gap + 1].any()
        if on and not (beside and stop - first <= max(gap, 1)):
            events += _event(scores, class_id, first, stop, modality=modality)
    return [e for e in events if clock.lasts(e.start, e.end, rule.min_duration)]


def _alone(scores: Scores, class_id: int, decision: Decision, modality: EventModality) -> Bools:
    """(T,) where a class that is audible isn't visible, or the other way round."""
    audio = modality == "audio"
    other = scores.visual_scores if audio else scores.audio_scores
    at_least = decision.visual_threshold if audio else decision.audio_threshold
    alone = np.ones(len(scores.grid), dtype=bool)
    if other is not None:
        alone &= ~(other[:, class_id] >= at_least)  # NaN is no sign of it
    known = scores.audible if audio else scores.visible
    return alone & known if decision.require_both and known is not None else alone


def _segments_of(event: Event, scores: Scores) -> tuple[int, int]:
    """First and one-past-last segment of an event that was made of these scores."""
    step = scores.grid.step
    last = len(scores.grid) if event.end >= scores.grid.bounds(len(scores.grid) - 1)[1] else None
    return clock.segment_at(event.start, step), last or clock.segment_at(event.end, step)


def _events_of(
    scores: Scores, class_id: int, decision: Decision, place: slice
) -> tuple[list[Event], int]:
    """A class's events in some consecutive segments, of any length.

    Returns:
        The events, and the first segment of those at the end that a later segment could
        still make an event of, or join to one (one past the last where there is none).
    """
    rule = decision.of(scores.classes[class_id])
    values = scores.values[place, class_id]
    allowed = possible(scores)[place] if decision.require_both else np.ones(len(values), bool)
    seeds, over = masks(values, scores.labels[place] == class_id, rule, allowed)
    starts, stops = spans(seeds, over, max_gap=gap_segments(rule, scores.grid.step))
    events = [
        event
        for first, stop in zip(starts + place.start, stops + place.start, strict=True)
        for event in _event(scores, class_id, int(first), int(stop))
    ]
    trailing = len(over) - int(np.argmin(over[::-1])) if not over.all() else 0
    return events, place.start + trailing


def _event(
    scores: Scores, class_id: int, first: int, stop: int, *, modality: EventModality = "both"
) -> Iterator[Event]:
    start, end = scores.grid.bounds(first)[0], scores.grid.bounds(stop - 1)[1]
    values = scores.values if modality == "both" else getattr(scores, f"{modality}_scores")
    mean = np.mean if modality == "both" else np.nanmean  # a bridged gap may hold NaN
    score = float(mean(values[first:stop, class_id], dtype=np.float64))
    if end <= start:
        return
    event = Event(start, end, scores.classes[class_id], min(max(score, 0.0), 1.0), modality)
    if modality != "both":
        yield event
    else:
        lag = None if scores.lag is None else scores.lag[:, class_id]
        weight, lag_mean = (_known_mean(x, first, stop) for x in (scores.audio_weight, lag))
        yield replace(event, audio_weight=weight, lag=lag_mean)


def _known_mean(values: Floats | None, first: int, stop: int) -> float | None:
    """The mean of some segments' values, None where one isn't known."""
    mean = np.nan if values is None else float(np.mean(values[first:stop], dtype=np.float64))
    return None if np.isnan(mean) else mean


class Localizer:
    """A model with its two backbones, loaded once, that localizes many files.

    Args:
        model, events, vocabulary: As for :func:`localize`.
        cache: True stores the features of every file in the cache folder, so that another model of
            the same backbones needn't extract them again; see :mod:`avel.features.cache`.
        precision: Of the backbones, as for :class:`avel.features.extractor.Extractor`.
        device: Where model and backbones run; see :func:`avel.device.check_device`.

    Raises:
        CheckpointError: if the model can't be read.
            It is refused too if it was trained on other weights of its backbones than are here.
        UsageError: for events that the vocabulary doesn't know, or of a model that was trained.
        WeightsError: if a backbone's weights are missing.
    """

    def __init__(
        self,
        model: str | Path | Predictor = "default",
        *,
        events: str | Sequence[str] | None = None,
        vocabulary: str | Path | None = None,
        cache: bool = True,
        precision: Precision = "float32",
        device: str = "auto",
    ) -> None:
        self.cache = cache
        self.model = _load(model, events, vocabulary).to(device)
        self._extract = self.model.extractor(precision=precision, device=device)

    def __call__(self, video: Video, **options: Any) -> Timeline:
        """The timeline of one file; options and errors as for :func:`localize`."""
        return self._begin(video, ahead=False, **options).timeline()

    def stream(self, video: Video, **options: Any) -> EventStream:
        """The events of one file as they become final; options and errors as for :func:`localize`.

        A segment is audible if it is near the file's loudest, which only the whole sound tells: it
        is decoded once before (a small part of the work). So no event changes later, and the
        timeline in the end is the one of :meth:`__call__`.
        """
        return self._begin(video, ahead=True, **options)

    def _begin(
        self,
        video: Video,
        *,
        ahead: bool,
        decision: Decision | None = None,
        modality: Choice = "both",
        audio_track: int | None = None,
        video_track: int | None = None,
        progress: Progress | None = None,
        **changes: Any,
    ) -> EventStream:
        check_choice(modality, CHOICES)
        chosen = (decision or tuned(self.model.card)).override(**changes)
        features, facts = features_of(
            video,
            self._extract,
            cache=self.cache,
            ahead=ahead and chosen.require_both,
            progress=progress,
            audio_track=audio_track,
            video_track=video_track,
        )
        return EventStream(
            _name(video),
            self.model.scoring(features),
            facts,
            card=self.model.card,
            decision=chosen,
            modality=modality,
        )


class EventStream:
    """The events of a file as they become final; :meth:`timeline` has all of them in order.

    Args:
        video: The file as it was named.
        scoring: Its scores in the making.
        facts: Gives the facts of the file, once it was read.
        card: The model's.
        decision: As in :func:`to_events`; its temperature is applied to the scores.
        modality: As for :func:`localize`.
    """

    def __init__(
        self,
        video: str,
        scoring: Scoring,
        facts: Callable[[], Facts],
        *,
        card: Json,
        decision: Decision,
        modality: Choice = "both",
    ) -> None:
        self.video, self.card, self.decision = video, card, decision
        self.modality = modality
        self._scoring, self._facts = scoring, facts
        self._steps = iter(scoring)

    def __iter__(self) -> Iterator[Event]:
        """Every event once, as soon as no later segment can change it.

        That is in order of their ends, but for classes that wait longer (hysteresis, gaps). What
        is only audible or only visible comes after the file's end, where it was chosen.
        """
        first = [0] * len(self._scoring.classes)  # where each class's next event may begin
        softened, done = np.zeros_like(self._scoring.values), 0
        for ready in self._steps:
            scores = self._scoring.scores()
            if self.decision.temperature != 1:
                new = scores.values[done:ready]
                softened[done:ready] = soften(new, self.decision.temperature)
                scores, done = replace(scores, values=softened), ready
            final: list[Event] = []
            for class_id in range(len(first)):
                events, first[class_id] = self._final(scores, class_id, first[class_id], ready)
                final += events
            if self.modality in ("both", "all"):
                yield from sorted(final, key=lambda e: (e.end, e.start))
        if self.modality != "both":
            yield from (e for e in self.timeline() if e.modality != "both")

    def _final(
        self, scores: Scores, class_id: int, first: int, ready: int
    ) -> tuple[list[Event], int]:
        """A class's events that no segment from ``ready`` on can change, and where to go on."""
        events, pending = _events_of(scores, class_id, self.decision, slice(first, ready))
        rule, step = self.decision.of(scores.classes[class_id]), scores.grid.step
        if ready == len(scores.grid):
            pending = ready
        else:
            for event in reversed(events):  # those that may grow, or be joined to what may come
                stop = clock.segment_at(event.end, step)
                if stop >= pending or pending - stop <= gap_segments(rule, step):
                    pending = min(pending, clock.segment_at(event.start, step))
        over = scores.grid.bounds(pending)[0] if pending < ready else float("inf")
        final = [e for e in events if e.start < over]
        return [e for e in final if clock.lasts(e.start, e.end, rule.min_duration)], pending

    def timeline(self) -> Timeline:
        """The timeline of the whole file; what wasn't iterated yet is read first."""
        for _ in self._steps:
            pass
        scores, facts = self.decision.calibrated(self._scoring.scores()), self._facts()
        lanes = {
            m: tuple(to_events(scores, decision=self.decision, modality=m)) for m in MODALITIES
        }
        timeline = Timeline(
            video=self.video,
            events=lanes["both"],
            audio_only=lanes["audio"],
            visual_only=lanes["visual"],
            duration=scores.grid.duration,
            classes=scores.classes,
            scores=scores,
            model=self.card,
            notes=tuple(_notes(facts, scores)),
            player_start=facts.player_start,
            media=facts.media,
        )
        return timeline.choose(self.modality)


def _name(video: Video) -> str:
    """What a timeline calls its file: the path as it was given."""
    if isinstance(video, Features):
        return video.source
    return str(video if isinstance(video, str | Path) else video.path)


def tuned(card: Json) -> Decision:
    """The decision that `avel tune` stored in a model's card, or the paper's."""
    stored = card.get("decision")
    return Decision() if stored is None else Decision.from_json(stored)


def _load(
    model: str | Path | Predictor,
    events: str | Sequence[str] | None,
    vocabulary: str | Path | None,
) -> Predictor:
    """A model from its folder, by its name, or from an exported file; with the requested events."""
    if events is not None or vocabulary is not None:
        if model not in ("default", "named_events"):
            name = str(model) if isinstance(model, str | Path) else "given"
            raise UsageError(
                f"events by name don't go with the model {name}",
                expected="the model named_events: a trained or exported one has its own classes",
                hint="leave out the model, or the events",
            )
        from avel.inference.named_events import load_named_events

        return load_named_events(events, vocabulary=vocabulary)
    if not isinstance(model, str | Path):
        return model
    from avel.inference.load import load_model

    return load_model(model)


def _notes(facts: Facts, scores: Scores) -> Iterator[str]:
    """What a reader of the events must know of the file, a sentence each."""
    if not facts.has_audio:
        yield "The file has no sound that can be read, so nothing in it is both seen and heard."
    elif scores.audible is not None and not scores.audible.any():
        quiet = f"The sound is silent, or below {SILENT:g} dBFS throughout"
        yield f"{quiet}, so nothing in the file is both seen and heard."
    if not facts.has_video:
        yield "The file has no picture that can be read, so nothing in it is both seen and heard."
    if scores.grid.duration < scores.grid.step:
        yield f"The file is shorter than one segment of {scores.grid.step:g} s."
    stated_above = ("the file has no sound", "the file has no picture")
    yield from (_sentence(n) for n in facts.notes if not n.lower().startswith(stated_above))


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")


def localize(
    video: Video,
    *,
    model: str | Path | Predictor = "default",
    events: str | Sequence[str] | None = None,
    vocabulary: str | Path | None = None,
    decision: Decision | None = None,
    threshold: float | None = None,
    low_threshold: float | None = None,
    min_duration: float | None = None,
    max_gap: float | None = None,
    require_both: bool = True,
    modality: Choice = "both",
    audio_track: int | None = None,
    video_track: int | None = None,
    progress: Progress | None = None,
    cache: bool = True,
    precision: Precision = "float32",
    device: str = "auto",
) -> Timeline:
    """Find the audio-visual events of a video file: the whole sentence.

    The file is cut into segments of the model's step, the backbones the model was trained on make
    features of them, the model scores them in overlapping windows (so any length will do), and
    :func:`to_events` decides. For many files make a :class:`Localizer` once.

    Args:
        video: Path of the file, what :func:`avel.open` gave (the file is then not probed again),
            or features of the model's backbones (:func:`avel.extract`), from which it goes on.
        model: A run's folder or checkpoint, an exported ``.onnx`` file, ``"default"`` for the one
            that names real events without training, ``"toybox"`` for a toy, or a model loaded
            already with :func:`avel.load_model`.
        events: Of the default model: the events to look for, as phrases and sets ("dog bark,
            rooster", "animals"); see :func:`avel.events.select_events`. None takes the
            vocabulary's default set. Labels are the words given here.
        vocabulary: A TOML file of your own events, for the default model; see docs/events.md.
        decision: As in :func:`to_events`; None takes what `avel tune` stored in the model, or else
            the paper's decision, and ``Decision()`` the latter.
        threshold, low_threshold, min_duration, max_gap, require_both: As in :func:`to_events`.
        modality: Which events stand in the timeline's ``events``: ``"both"`` for the audio-visual
            ones (what is only audible or only visible is then in ``audio_only`` and
            ``visual_only``), ``"audio"`` or ``"visual"`` for what is only that, ``"all"`` for every
            one, each with its modality. See :meth:`avel.Timeline.choose`.
        audio_track, video_track: Which track to read where the file has several, by its number in
            the file; the one marked as default if None. For paths only.
        progress: Called with segments done and segments in all.
        cache, precision, device: As for :class:`Localizer`.

    Returns:
        The timeline; its ``notes`` say what was missing or damaged.

    Raises:
        MediaError: if the file can't be opened or holds neither sound nor picture.
        CheckpointError: if the model can't be read.
        WeightsError: if a backbone's weights are missing.
        UsageError: for options out of range and tracks the file doesn't have.
    """
    find = Localizer(
        model, events=events, vocabulary=vocabulary, cache=cache, precision=precision, device=device
    )  # fmt: skip
    return find(
        video,
        decision=decision,
        threshold=threshold,
        low_threshold=low_threshold,
        min_duration=min_duration,
        max_gap=max_gap,
        require_both=require_both,
        modality=modality,
        audio_track=audio_track,
        video_track=video_track,
        progress=progress,
    )


def stream_events(
    video: Video,
    *,
    model: str | Path | Predictor = "default",
    events: str | Sequence[str] | None = None,
    vocabulary: str | Path | None = None,
    cache: bool = True,
    precision: Precision = "float32",
    device: str = "auto",
    **options: Any,
) -> EventStream:
    """The events of a video file one by one, the first while the rest is still read.

    >>> for event in stream_events("street.mp4"):  # doctest: +SKIP
    ...     print(event)

    Args:
        video, model, events, vocabulary, cache, precision, device: As for :func:`localize`.
        options: Its others.

    Returns:
        The events, each as soon as it can't change any more; the object's
        ``timeline()`` then gives what :func:`localize` gives.

    Raises:
        MediaError, CheckpointError, WeightsError, UsageError: As :func:`localize`.
    """
    find = Localizer(
        model, events=events, vocabulary=vocabulary, cache=cache, precision=precision, device=device
    )  # fmt: skip
    return find.stream(video, **options)
