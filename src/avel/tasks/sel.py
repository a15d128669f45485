"""SEL, supervised event localization: a class or background for every segment.

Trained on the labels of every segment. The decision is the paper's own, taken by the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avel import metrics
from avel.data.base import Split
from avel.metrics import Ints


def score(labels: Ints, truth: Ints, classes: int, *, step: float = 1.0) -> dict[str, float]:
    """Every metric of a labelling by name; shares in [0, 1], the boundary error in seconds.

    Args:
        labels: (N, T) answered class ids, C for background; anything beyond a clip's length.
        truth: (N, T) true class ids, -1 beyond a clip's length.
        classes: C.
        step: Seconds a segment.
    """
    return {
        "segment_accuracy": metrics.segment_accuracy(labels, truth),
        "video_accuracy": metrics.video_accuracy(labels, truth, classes),
        "background_f1": metrics.background_f1(labels, truth, classes),
        "event_f1_0.5": metrics.event_f1(labels, truth, classes, 0.5),
        "event_f1_0.7": metrics.event_f1(labels, truth, classes, 0.7),
        "boundary_error": metrics.boundary_error(labels, truth, classes, step),
    }


def details(
    labels: Ints, truth: Ints, classes: Sequence[str], *, step: float = 1.0
) -> dict[str, dict[str, float]]:
    """Every metric of each class and its number of segments, ``"background"`` last.

    ``accuracy`` of the class's segments; of the clips whose category it is ``clip_accuracy``, the
    share of right segments, background counted (table S1 of tian2018), and ``video_accuracy``; and
    of its events alone F1 and boundary error. NaN where there is nothing to count; background
    has segments, but neither clips nor events.
    """
    accuracy = metrics.class_accuracy(labels, truth, len(classes))
    return {
        name: {
            "accuracy": float(accuracy[i]),
            **_events(labels, truth, i, len(classes), step),
            "segments": int((truth == i).sum()),
        }
        for i, name in enumerate((*classes, "background"))
    }


def _events(labels: Ints, truth: Ints, own: int, classes: int, step: float) -> dict[str, float]:
    names = ("clip_accuracy", "video_accuracy", "event_f1_0.5", "event_f1_0.7", "boundary_error")
    if own == classes:
        return dict.fromkeys(names, float("nan"))
    clips = metrics.clip_category(truth, classes) == own
    answered = np.where(labels == own, own, classes)
    true = np.where((truth == own) | (truth < 0), truth, classes)
    found = (
        metrics.segment_accuracy(labels[clips], truth[clips]),
        metrics.video_accuracy(labels[clips], truth[clips], classes),
        metrics.event_f1(answered, true, classes, 0.5),
        metrics.event_f1(answered, true, classes, 0.7),
        metrics.boundary_error(answered, true, classes, step),
    )
    return dict(zip(names, found, strict=True))


def trivial(split: Split, classes: int) -> dict[str, float]:
    """Segment accuracy of answers that look at nothing (PROTOCOL: 82.21 and 17.79 on AVE's test).

    ``true_category`` answers each clip's true category at every segment, never background;
    ``always_background`` background everywhere.
    """
    category = metrics.clip_category(split.labels, classes)
    # a clip without any event has no category: no event id is right there
    constant = np.where(category < classes, category, -2)[:, None]
    everywhere = np.broadcast_to(constant, split.labels.shape)
    nowhere = np.full_like(split.labels, classes)
    return {
        "true_category": metrics.segment_accuracy(everywhere, split.labels),
        "always_background": metrics.segment_accuracy(nowhere, split.labels),
    }
