"""A job's folder: what was found of its file, so that it can be decided again without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel.errors import DataError
from avel.files import write_whole
from avel.inference.decision import Decision
from avel.inference.localizer import to_events, tuned
from avel.report.thumbs import jpeg
from avel.types import MODALITIES, Json, Scores, Timeline

_SCORES, _RESULT, _THUMBS, _SPECTROGRAM = (
    "scores.safetensors", "result.json", "thumbs.json", "spectrogram.png",
)  # fmt: skip


def save_result(folder: Path, found: Timeline) -> None:
    """Keep a timeline with its scores and attention; the result counts once its last file is there.

    Args:
        folder: The job's.
        found: What a localizer answers.
    """
    assert found.scores is not None
    found.scores.save(folder / _SCORES)
    held = {
        "video": found.video,
        "model": found.model,
        "notes": list(found.notes),
        "player_start": found.player_start,
    }
    write_whole(folder / _RESULT, json.dumps(held))


def load_result(folder: Path) -> Timeline:
    """What :func:`save_result` wrote, with the model's own decision.

    Raises:
        DataError: if it isn't there, or damaged.
    """
    try:
        held: Json = json.loads((folder / _RESULT).read_text("utf-8"))
        scores = Scores.load(folder / _SCORES)
    except (OSError, ValueError, KeyError, DataError) as e:
        raise DataError(
            f"the kept result can't be read ({type(e).__name__})", hint="let the job run again"
        ) from e
    return decided(
        Timeline(
            video=held["video"],
            events=(),
            duration=scores.grid.duration,
            classes=scores.classes,
            scores=scores,
            model=held["model"],
            notes=tuple(held["notes"]),
            player_start=float(held.get("player_start", 0.0)),
        )
    )


def decision_of(kept: Timeline, **asked: float | None) -> Decision:
    """The decision that a model was tuned to, with what is asked for (see ``Decision.asked``)."""
    return tuned(kept.model).asked(**asked)  # type: ignore[arg-type]


def decided(kept: Timeline, **asked: float | None) -> Timeline:
    """The same scores with events by other thresholds.

    Raises:
        UsageError: for values out of range.
    """
    assert kept.scores is not None
    decision = decision_of(kept, **asked)
    found = {m: tuple(to_events(kept.scores, decision=decision, modality=m)) for m in MODALITIES}
    return replace(
        kept, events=found["both"], audio_only=found["audio"], visual_only=found["visual"]
    )


def save_pictures(
    folder: Path, thumbs: Sequence[tuple[float, NDArray[np.uint8]]], spectrogram: bytes
) -> None:
    """Keep thumbnails and the spectrogram; empty bytes for none."""
    for number, (_, image) in enumerate(thumbs):
        write_whole(folder / thumb_name(number), jpeg(image))
    write_whole(folder / _THUMBS, json.dumps([time for time, _ in thumbs]))
    if spectrogram:
        write_whole(folder / _SPECTROGRAM, spectrogram)


def thumb_name(number: int) -> str:
    """The file of a thumbnail."""
    return f"thumb-{number}.jpg"


def thumb_times(folder: Path) -> list[float]:
    """The seconds of the thumbnails that were kept."""
    try:
        held: Any = json.loads((folder / _THUMBS).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [float(t) for t in held]


def spectrogram_path(folder: Path) -> Path:
    """Where the spectrogram lies, if there is one."""
    return folder / _SPECTROGRAM


def clear_result(folder: Path) -> None:
    """Remove what was found; the uploaded file stays."""
    for name in (_RESULT, _SCORES, _THUMBS, _SPECTROGRAM):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("thumb-*.jpg"):
        path.unlink(missing_ok=True)
