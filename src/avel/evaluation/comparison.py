"""Whether two runs differ: on the same clips by a paired bootstrap, or over the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avel import metrics
from avel.data.base import Split
from avel.errors import UsageError
from avel.evaluation.cross_validation import HEADLINES, Folds
from avel.evaluation.results import Evaluation
from avel.tasks import task_named

#: Event F1 at this intersection over union is compared beside the headline metric.
IOU = 0.5
EVENT_F1 = f"event_f1_{IOU}"
#: A bootstrap over fewer clips than this is too narrow to tell a difference from chance.
LEAST_CLIPS = 20


@dataclass(frozen=True)
class MetricComparison:
    """A metric of two runs.

    Args:
        metric: Its name.
        scores: Of both runs, in [0, 1], a mean over seeds, or over folds.
        gain: The second's score less the first's.
        intervals: Ends of the gain's 95 % interval, by what it is over.
        missing: Why the metric can't be compared, in a sentence; the rest is nothing then.
        clips: How many clips a bootstrap resampled, None over folds.
    """

    metric: str
    scores: tuple[float, float] = (0.0, 0.0)
    gain: float = 0.0
    intervals: tuple[tuple[str, tuple[float, float]], ...] = ()
    missing: str = ""
    clips: int | None = None

    @property
    def real(self) -> bool:
        """Whether no interval contains zero, and no bootstrap was over too few clips."""
        return not self.too_few and all(low > 0 or high < 0 for _, (low, high) in self.intervals)

    @property
    def too_few(self) -> bool:
        """Whether a bootstrap was over fewer clips than :data:`LEAST_CLIPS`."""
        return self.clips is not None and self.clips < LEAST_CLIPS


def compare_evaluations(
    first: Evaluation, second: Evaluation, split: Split, classes: int
) -> list[MetricComparison]:
    """The task's headline metric and event F1 of two evaluations, by a paired bootstrap over clips.

    Args:
        first, second: Of the same clips and task.
        split: The clips, as they were evaluated.
        classes: C.
    """
    task, evaluations = task_named(first.task), (first, second)
    correct = [
        [task.correct_by_clip(p, split, classes) for p in e.predictions] for e in evaluations
    ]
    one, other = (np.stack([right for right, _ in by_seed]) for by_seed in correct)
    headline = metrics.paired_bootstrap(one, other, correct[0][0][1])
    comparisons = [_of_clips(task.selection_metric, evaluations, headline, len(split))]
    try:
        counts = [
            [task.event_counts_by_clip(p, split, classes, iou=IOU) for p in e.predictions]
            for e in evaluations
        ]
    except UsageError as e:
        return [*comparisons, MetricComparison(EVENT_F1, missing=e.got)]
    if not all(total.any() for by_seed in counts for _, total in by_seed):
        reason = f"the clips of {split.name} have no events, and a run detects none"
        return [*comparisons, MetricComparison(EVENT_F1, missing=reason)]
    one, other = (np.stack([paired for paired, _ in by_seed]) for by_seed in counts)
    total, more = (np.stack([total for _, total in by_seed]) for by_seed in counts)
    events = metrics.paired_bootstrap(one, other, (total, more))
    return [*comparisons, _of_clips(EVENT_F1, evaluations, events, len(split))]


def _of_clips(
    metric: str, evaluations: Sequence[Evaluation], difference: metrics.Difference, clips: int
) -> MetricComparison:
    first, second = (e[metric].mean for e in evaluations)
    intervals = (("clips", difference.clips), ("clips and seeds", difference.both))
    return MetricComparison(metric, (first, second), difference.gain, intervals, clips=clips)


def load_folds(
    folders: Sequence[Path], fingerprints: Sequence[Sequence[str]]
) -> tuple[Folds, Folds] | None:
    """The cross-validations of two runs; None where neither is one.

    Args:
        folders: Two.
        fingerprints: Of the data that each run's models were trained on.

    Raises:
        UsageError: if only one is a cross-validation, or the folds are of different clips.
        CheckpointError: if one can't be read.
    """
    first, second = (Folds.load(folder) for folder in folders)
    if first is None and second is None:
        return None
    if first is None or second is None:
        crossed, other = folders if second is None else folders[::-1]
        raise UsageError(
            f"{crossed} is a cross-validation, and {other} is not",
            expected="two runs with --folds, or two without",
            hint="train both with the same --folds, or name clips that neither was trained on "
            "with data=DIR",
        )
    sizes = [[(f.seed, f.number, f.clips, f.segments) for f in v.folds] for v in (first, second)]
    if sizes[0] != sizes[1] or set(fingerprints[0]) != set(fingerprints[1]):
        raise UsageError(
            f"{folders[0]} and {folders[1]} have different folds",
            expected="the same data, number of folds and seeds",
            hint="train both on the same data with the same --folds and --seeds",
        )
    return first, second


def compare_folds(first: Folds, second: Folds) -> list[MetricComparison]:
    """Segment accuracy and event F1 of two cross-validations, by the corrected resampled t-test.

    The models of different folds share most of their training clips, and so the differences of
    the folds vary less than those of independent trainings: the variance of their mean is
    ``(1 / n + 1 / (folds - 1))`` times that of the differences (Nadeau and Bengio 2003, Inference
    for the generalization error; for repeated folds Bouckaert and Frank 2004).

    Args:
        first, second: Of the same folds, see :func:`load_folds`.
    """
    return [_of_folds(metric, first, second) for metric in HEADLINES]


def _of_folds(metric: str, first: Folds, second: Folds) -> MetricComparison:
    values = np.array([v[metric].values for v in (first, second)])
    values = values[:, np.isfinite(values).all(0)]  # a fold without events has no event F1
    count = values.shape[1]
    if count < 2:
        return MetricComparison(
            metric, missing=f"{count} folds have events, and two are needed at least"
        )
    folds = max(f.number for f in first.folds)
    difference = values[1] - values[0]
    spread = np.sqrt((1 / count + 1 / (folds - 1)) * difference.var(ddof=1))
    reach = metrics.student_quantile(0.975, count - 1) * float(spread)
    gain = float(difference.mean())
    interval = (f"{count} folds", (gain - reach, gain + reach))
    scores = float(values[0].mean()), float(values[1].mean())
    return MetricComparison(metric, scores, gain, (interval,))
