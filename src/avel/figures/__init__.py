"""The papers' figures: data in, artists out, on axes of yours or of a new figure.

Every function takes ``ax=`` (``axes=`` where there are several) and returns what it drew. Without
axes it draws on a new figure, which is ``.figure`` of what is returned and isn't registered with
pyplot; :func:`save_figure` writes it. Matplotlib and torch are imported on the first call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avel.figures.activations import Activations as Activations
    from avel.figures.activations import Stage as Stage
    from avel.figures.activations import collect_activations as collect_activations
    from avel.figures.attention import Attention as Attention
    from avel.figures.attention import attention_strip as attention_strip
    from avel.figures.attention import clip_attention as clip_attention
    from avel.figures.attention import video_attention as video_attention
    from avel.figures.clip_timelines import clip_frames as clip_frames
    from avel.figures.clip_timelines import timeline as timeline
    from avel.figures.clip_timelines import timelines as timelines
    from avel.figures.curves import lambda_curves as lambda_curves
    from avel.figures.dataset import dataset_panels as dataset_panels
    from avel.figures.embeddings import neighbour_share as neighbour_share
    from avel.figures.embeddings import project as project
    from avel.figures.embeddings import scatter as scatter
    from avel.figures.embeddings import tsne as tsne
    from avel.figures.learning import History as History
    from avel.figures.learning import learning_curves as learning_curves
    from avel.figures.learning import read_histories as read_histories
    from avel.figures.matrices import class_difference as class_difference
    from avel.figures.matrices import confusion_matrix as confusion_matrix
    from avel.figures.predictions import Predictions as Predictions
    from avel.figures.predictions import predict_split as predict_split
    from avel.figures.reliability import reliability_diagram as reliability_diagram
    from avel.figures.retrieval import Retrieval as Retrieval
    from avel.figures.retrieval import retrieval_timeline as retrieval_timeline
    from avel.figures.retrieval import retrieval_timelines as retrieval_timelines
    from avel.figures.retrieval import retrieve as retrieve
    from avel.figures.strips import frame_strip as frame_strip
    from avel.figures.strips import label_strip as label_strip
    from avel.figures.strips import log_mel_strip as log_mel_strip
    from avel.figures.strips import waveform as waveform
    from avel.figures.style import save_figure as save_figure
    from avel.figures.style import stacked_axes as stacked_axes

#: The public names by module.
_MODULES = {
    "activations": ("Activations", "Stage", "collect_activations"),
    "attention": ("Attention", "attention_strip", "clip_attention", "video_attention"),
    "clip_timelines": ("clip_frames", "timeline", "timelines"),
    "curves": ("lambda_curves",),
    "dataset": ("dataset_panels",),
    "embeddings": ("neighbour_share", "project", "scatter", "tsne"),
    "learning": ("History", "learning_curves", "read_histories"),
    "matrices": ("class_difference", "confusion_matrix"),
    "predictions": ("Predictions", "predict_split"),
    "reliability": ("reliability_diagram",),
    "retrieval": ("Retrieval", "retrieval_timeline", "retrieval_timelines", "retrieve"),
    "strips": ("frame_strip", "label_strip", "log_mel_strip", "waveform"),
    "style": ("save_figure", "stacked_axes"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:  # imported late: the package costs nothing
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'avel.figures' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"avel.figures.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
