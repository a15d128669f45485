"""SEL, supervised event localization: a class or background for every segment.

Trained on the classes of all segments. The decision is the paper's own, taken by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from avel import metrics
from avel.data.base import Split
from avel.metrics import Ints
from avel.models.base import TaskName
from avel.tasks.base import Predict, Task

if TYPE_CHECKING:
    import torch

    from avel.data.resident import Resident
    from avel.models.base import Model


class SEL(Task):
    """Supervised event localization."""

    name: ClassVar[TaskName] = "sel"
    summary = "supervised event localization"
    settings: ClassVar[tuple[str, ...]] = ("supervised",)

    def predictor(
        self, network: Model, clips: Resident, *, batch: int = 64,
        device: torch.device | None = None, bf16: bool = False,
    ) -> Predict:  # fmt: skip
        """``predict(split) -> labels (N, T), scores (N, T, C+1)``; labels are -1 on padding."""
        import torch

        from avel.models.precision import autocast, in_float

        target = device or next(network.parameters()).device

        def predict(_: Split) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            network.eval()
            labels = np.full(tuple(clips.labels.shape), -1, dtype=np.int64)
            scores: NDArray[np.float32] | None = None
            with torch.inference_mode():
                for i in range(0, len(clips), batch):
                    rows = torch.arange(i, min(i + batch, len(clips)), device=clips.lengths.device)
                    part = clips.batch(rows, device=target)
                    with autocast(target, bf16):
                        output = in_float(
                            network(audio=part.audio, visual=part.visual, mask=part.mask)
                        )
                    assert output.scores is not None and output.labels is not None
                    t = output.labels.shape[1]
                    if scores is None:
                        scores = np.zeros((*labels.shape, output.scores.shape[-1]), np.float32)
                    labels[i : i + len(rows), :t] = output.labels.cpu().numpy()
                    scores[i : i + len(rows), :t] = output.scores.cpu().numpy()
            assert scores is not None
            return labels, scores

        return predict

    def cached(self, predict: Predict) -> Predict:
        """The same function, which computes every split's labels and scores once."""
        results: dict[int, Any] = {}

        def once(split: Split) -> Any:
            if id(split) not in results:
                results[id(split)] = predict(split)
            return results[id(split)]

        return once

    def predictions(self, predict: Predict, split: Split, classes: int) -> dict[str, list[Any]]:
        """``labels``: (N, T) class ids of every clip."""
        return {"labels": _labels(predict, split).tolist()}

    def _truth(self, split: Split, classes: int) -> NDArray[np.int64]:
        return split.labels

    def _count_correct(
        self, arrays: Sequence[NDArray[np.int64]], truth: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        real = truth >= 0
        return ((arrays[0] == truth) & real).sum(1), real.sum(1)

    def evaluate(
        self, predict: Predict, split: Split, classes: int, *, step: float = 1.0, full: bool = True
    ) -> dict[str, float]:
        """Every metric of the predicted labels, see :func:`segment_metrics`."""
        return segment_metrics(_labels(predict, split), split.labels, classes, step=step)

    def details(
        self, predict: Predict, split: Split, classes: Sequence[str], *, step: float = 1.0
    ) -> dict[str, dict[str, float]]:
        """Every metric of each class, see :func:`class_metrics`."""
        return class_metrics(_labels(predict, split), split.labels, classes, step=step)

    def baselines(self, split: Split, classes: int) -> dict[str, float]:
        """Segment accuracy of constant predictions (PROTOCOL: 82.21 and 17.79 on AVE's test).

        ``true_category`` predicts each clip's true category at every segment, never background;
        ``always_background`` background everywhere.
        """
        category = metrics.clip_category(split.labels, classes)
        # a clip without any event has no category: no class id is correct there
        constant = np.where(category < classes, category, -2)[:, None]
        everywhere = np.broadcast_to(constant, split.labels.shape)
        nowhere = np.full_like(split.labels, classes)
        return {
            "true_category": metrics.segment_accuracy(everywhere, split.labels),
            "always_background": metrics.segment_accuracy(nowhere, split.labels),
        }


def _labels(predict: Predict, split: Split) -> NDArray[np.int64]:
    labels = np.asarray(predict(split)[0])
    if labels.shape != split.labels.shape:
        raise ValueError(f"labels of shape {labels.shape}: expected {split.labels.shape}")
    return labels


def segment_metrics(
    labels: Ints, truth: Ints, classes: int, *, step: float = 1.0
) -> dict[str, float]:
    """Every metric of predicted labels by name; shares in [0, 1], the boundary error in seconds.

    Args:
        labels: (N, T) predicted class ids, C for background; anything beyond a clip's length.
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


def class_metrics(
    labels: Ints, truth: Ints, classes: Sequence[str], *, step: float = 1.0
) -> dict[str, dict[str, float]]:
    """Every metric of each class and its number of segments, ``"background"`` last.

    ``accuracy`` of the class's segments; of the clips whose category it is ``clip_accuracy``, the
    share of correct segments, background counted (table S1 of tian2018), and ``video_accuracy``;
    and of its events alone F1 and boundary error. NaN where there is nothing to count; background
    has segments, but neither clips nor events.
    """
    accuracy = metrics.class_accuracy(labels, truth, len(classes))
    return {
        name: {
            "accuracy": float(accuracy[i]),
            **_event_metrics(labels, truth, i, len(classes), step),
            "segments": int((truth == i).sum()),
        }
        for i, name in enumerate((*classes, "background"))
    }


def _event_metrics(
    labels: Ints, truth: Ints, class_id: int, classes: int, step: float
) -> dict[str, float]:
    names = ("clip_accuracy", "video_accuracy", "event_f1_0.5", "event_f1_0.7", "boundary_error")
    if class_id == classes:
        return dict.fromkeys(names, float("nan"))
    clips = metrics.clip_category(truth, classes) == class_id
    predicted = np.where(labels == class_id, class_id, classes)
    true = np.where((truth == class_id) | (truth < 0), truth, classes)
    values = (
        metrics.segment_accuracy(labels[clips], truth[clips]),
        metrics.video_accuracy(labels[clips], truth[clips], classes),
        metrics.event_f1(predicted, true, classes, 0.5),
        metrics.event_f1(predicted, true, classes, 0.7),
        metrics.boundary_error(predicted, true, classes, step),
    )
    return dict(zip(names, values, strict=True))
