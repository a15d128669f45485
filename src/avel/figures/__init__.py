"""The papers' figures: data in, artists out, on axes of yours or of a new figure.

Every function takes ``ax=`` (``axes=`` where there are several) and returns what it drew; without
axes it draws on a figure that pyplot knows nothing of, found as ``.figure`` of what is returned.
:func:`save_figure` writes it. Nothing here imports matplotlib or torch before it is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avel.figures.clips import clip_frames, timeline, timelines
    from avel.figures.curves import lambda_curves
    from avel.figures.embeddings import neighbour_share, project, scatter, tsne
    from avel.figures.judged import Judged, judge
    from avel.figures.matched import Matched, match, match_timeline, match_timelines
    from avel.figures.matrices import class_difference, confusion_matrix
    from avel.figures.reliability import reliability_diagram
    from avel.figures.stages import Stage, Staged, staged_features
    from avel.figures.strips import frame_strip, label_strip, log_mel_strip, waveform
    from avel.figures.style import save_figure, stacked_axes
    from avel.figures.watched import Watched, attention_strip, watch, watch_clip

_HOME = {
    "Judged": "judged",
    "Matched": "matched",
    "Stage": "stages",
    "Staged": "stages",
    "Watched": "watched",
    "attention_strip": "watched",
    "class_difference": "matrices",
    "clip_frames": "clips",
    "confusion_matrix": "matrices",
    "frame_strip": "strips",
    "judge": "judged",
    "label_strip": "strips",
    "lambda_curves": "curves",
    "log_mel_strip": "strips",
    "match": "matched",
    "match_timeline": "matched",
    "match_timelines": "matched",
    "neighbour_share": "embeddings",
    "project": "embeddings",
    "reliability_diagram": "reliability",
    "save_figure": "style",
    "scatter": "embeddings",
    "stacked_axes": "style",
    "staged_features": "stages",
    "timeline": "clips",
    "timelines": "clips",
    "tsne": "embeddings",
    "watch": "watched",
    "watch_clip": "watched",
    "waveform": "strips",
}

__all__ = [
    "Judged",
    "Matched",
    "Stage",
    "Staged",
    "Watched",
    "attention_strip",
    "class_difference",
    "clip_frames",
    "confusion_matrix",
    "frame_strip",
    "judge",
    "label_strip",
    "lambda_curves",
    "log_mel_strip",
    "match",
    "match_timeline",
    "match_timelines",
    "neighbour_share",
    "project",
    "reliability_diagram",
    "save_figure",
    "scatter",
    "stacked_axes",
    "staged_features",
    "timeline",
    "timelines",
    "tsne",
    "watch",
    "watch_clip",
    "waveform",
]


def __getattr__(name: str) -> Any:  # imported late: the package costs nothing
    if name not in _HOME:
        raise AttributeError(f"module 'avel.figures' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"avel.figures.{_HOME[name]}"), name)
    globals()[name] = value
    return value
