"""A job's folder: scores, attention and pictures, so that events need no network again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError
from avel.files import write_whole
from avel.inference.localizer import to_events, tuned
from avel.report.thumbs import jpeg
from avel.types import MODALITIES, Json, Scores, Timeline

_SCORES, _RESULT, _THUMBS = "scores.safetensors", "result.json", "thumbs.json"
#: The file of the spectrogram, which may be missing.
SPECTROGRAM = "spectrogram.png"


def save_result(folder: Path, timeline: Timeline) -> None:
    """Save a timeline with its scores and attention; ``result.json`` is written last.

    Args:
        folder: The job's.
        timeline: What a localizer returns.
    """
    assert timeline.scores is not None
    timeline.scores.save(folder / _SCORES)
    result = {
        "video": timeline.video,
        "model": timeline.model,
        "notes": list(timeline.notes),
        "player_start": timeline.player_start,
    }
    write_whole(folder / _RESULT, json.dumps(result))


def load_result(folder: Path, **options: float | None) -> Timeline:
    """The timeline that :func:`save_result` wrote.

    Args:
        folder: The job's.
        options: Of the decision in place of the model's own, see ``Decision.override``.

    Raises:
        DataError: if it isn't there, or damaged.
        UsageError: for options out of range.
    """
    try:
        result: Json = json.loads((folder / _RESULT).read_text("utf-8"))
        scores = Scores.load(folder / _SCORES)
    except (OSError, ValueError, KeyError, DataError) as e:
        raise DataError(
            f"the saved result can't be read ({type(e).__name__})", hint="let the job run again"
        ) from e
    decision = tuned(result["model"]).override(**options)  # type: ignore[arg-type]
    events = {m: tuple(to_events(scores, decision=decision, modality=m)) for m in MODALITIES}
    return Timeline(
        video=result["video"],
        events=events["both"],
        duration=scores.grid.duration,
        classes=scores.classes,
        scores=scores,
        model=result["model"],
        notes=tuple(result["notes"]),
        audio_only=events["audio"],
        visual_only=events["visual"],
        player_start=float(result.get("player_start", 0.0)),
    )


def event_facts(timeline: Timeline) -> Json:
    """What the list of jobs shows of the events: ``events``, ``labels``, ``min_score``."""
    return {
        "events": len(timeline),
        "labels": Counter(e.label for e in timeline),
        "min_score": min((e.score for e in timeline), default=None),
    }


def save_pictures(
    folder: Path, thumbs: Sequence[tuple[float, NDArray[np.uint8]]], spectrogram: bytes
) -> None:
    """Save thumbnails (seconds, picture) and the spectrogram (PNG; empty bytes for none)."""
    for number, (_, image) in enumerate(thumbs):
        write_whole(folder / thumb_name(number), jpeg(image))
    write_whole(folder / _THUMBS, json.dumps([time for time, _ in thumbs]))
    if spectrogram:
        write_whole(folder / SPECTROGRAM, spectrogram)


def thumb_name(number: int) -> str:
    """The file name of a thumbnail."""
    return f"thumb-{number}.jpg"


def thumb_times(folder: Path) -> list[float]:
    """The times of the saved thumbnails, in seconds."""
    try:
        times: Any = json.loads((folder / _THUMBS).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [float(t) for t in times]


def clear_result(folder: Path) -> None:
    """Remove the result and its pictures; the uploaded file stays."""
    for name in (_RESULT, _SCORES, _THUMBS, SPECTROGRAM):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("thumb-*.jpg"):
        path.unlink(missing_ok=True)
