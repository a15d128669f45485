"""Timelines made by hand, and a small video to go with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from avel.inference.localizer import to_events
from avel.media.encode import write_video
from avel.types import Grid, Scores, Timeline

CLASSES = ("Church bell", "Bark", "Siren")
#: The segments' classes that most tests take, 3 for background.
LABELS = [3, 0, 0, 0, 3, 1, 1, 3]


def hand_scores(labels: list[int], *, classes: tuple[str, ...] = CLASSES) -> Scores:
    """Scores of 0.7 for each segment's label, with one bright place of attention moving right."""
    count, width = len(labels), len(classes) + 1
    values = np.full((count, width), 0.3 / (width - 1), dtype=np.float32)
    values[np.arange(count), labels] = 0.7
    attention = np.full((count, 7, 7), 0.01)
    attention[np.arange(count), 3, np.arange(count) % 7] = 1.0
    return Scores(
        values=values,
        classes=classes,
        grid=Grid(float(count)),
        labels=np.array(labels),
        attention=attention / attention.sum(axis=(1, 2), keepdims=True),
        audible=np.arange(count) != count - 1,
        visible=np.ones(count, dtype=bool),
    )


def hand_timeline(video: str | Path, labels: list[int], **changes: object) -> Timeline:
    """A timeline with scores, a card and a note."""
    scores = hand_scores(labels)
    card = {"model": "cspa_csea", "task": "sel", "step": 1.0, "data": {"name": "toybox"}}
    known: dict[str, object] = {
        "video": str(video),
        "events": tuple(to_events(scores)),
        "duration": scores.grid.duration,
        "classes": scores.classes,
        "scores": scores,
        "model": card,
        "notes": ("picture: 2 packets couldn't be decoded",),
    }
    return Timeline(**{**known, **changes})  # type: ignore[arg-type]


def write_clip(path: Path, seconds: int = 8, *, fps: int = 10) -> Path:
    """A square that crosses the picture, with a tone in seconds 2 to 5."""
    frames = np.full((seconds * fps, 96, 160, 3), 40, dtype=np.uint8)
    for i, frame in enumerate(frames):
        x = int(140 * i / len(frames))
        frame[40:60, x : x + 20] = (230, 180, 40)
    times = np.arange(seconds * 16000) / 16000
    sound = 0.3 * np.sin(2 * np.pi * 1000 * times) * ((times >= 2) & (times < 5))
    write_video(path, frames=frames, fps=fps, audio=sound.astype(np.float32), rate=16000)
    return path


def apart_scores(scores: Scores) -> Scores:
    """The same with audio and visual scores, as :func:`lane_timeline` has them."""
    heard = np.full((len(scores.grid), len(CLASSES)), 0.05)
    seen = heard.copy()
    heard[4:7, 2], seen[0:2, 1], seen[:, 0] = 0.7, 0.9, np.nan
    return replace(scores, audio_scores=heard, visual_scores=seen)


def weighted_scores(scores: Scores) -> Scores:
    """The same with an audio weight and a lag, as :func:`weighted_timeline` has them."""
    weight = np.where(np.arange(len(scores.grid)) < 4, 0.25, 0.75)
    lag = np.tile([1.2, -0.5, 0.25], (len(scores.grid), 1))
    return replace(scores, audio_weight=weight, lag=lag)


def weighted_timeline(video: str | Path, labels: list[int], **changes: object) -> Timeline:
    """A timeline whose events have an audio weight and a lag.

    Before second 4 the picture has 3/4 of the weight, then the sound. Of :data:`CLASSES` the bell
    is heard 1.2 s later than it is seen, the bark seen 0.5 s later, the siren heard 0.25 s later.
    """
    scores = weighted_scores(hand_scores(labels))
    return hand_timeline(
        video, labels, **{"scores": scores, "events": tuple(to_events(scores)), **changes}
    )


def lane_timeline(video: str | Path, labels: list[int], **changes: object) -> Timeline:
    """A timeline with something that is only audible and something that is only visible.

    Of :data:`CLASSES` the siren is audible from 4 to 7 s, the bark visible from 0 to 2 s, and
    whether a bell is visible the model can't tell.
    """
    scores = apart_scores(hand_scores(labels))
    apart = {
        "audio_only": tuple(to_events(scores, modality="audio")),
        "visual_only": tuple(to_events(scores, modality="visual")),
    }
    return hand_timeline(video, labels, **{"scores": scores, **apart, **changes})
