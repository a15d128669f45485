"""Choosing a decision on validation: temperature, thresholds, gaps, smallest lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.data.base import Dataset, Split
from avel.device import torch_device
from avel.errors import UsageError
from avel.evaluation import calibration
from avel.evaluation.inputs import align_classes, choose_split
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision, Thresholds, gap_segments, masks, soften, spans
from avel.metrics import event_runs, match_events
from avel.tasks import task_named
from avel.types import Bools, Json

Array = NDArray[Any]
#: The candidates: thresholds (None: the paper's decision), hysteresis as a share of the threshold,
#: gaps and smallest lengths in segments.
THRESHOLDS = (None, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHARES, GAPS, LENGTHS = (None, 0.5), (0, 1, 2), (0, 2, 3)
#: Another rule than the paper's must gain so much F1, and as much as so many more detected
#: events would: fewer are chance (five, all in one direction: one in 32). The same holds for a
#: class's threshold of its own, for which the class needs ``FEWEST`` true events.
GAIN, EVENTS, FEWEST = 0.02, 5, 10
#: Folds on which a choice is checked; of fewer recordings than ``LEAVE_ONE_OUT`` each is a fold.
FOLDS, LEAVE_ONE_OUT = 5, 20
#: Overlap from which a predicted event is the true one.
IOU = 0.5


@dataclass(frozen=True)
class SplitScores:
    """A model's scores of a split's clips, one after the other with padding between.

    Args:
        values: (L, C+1) probabilities.
        chosen: (L,) class ids by the model's own decision, -1 between clips.
        truth: (L,) true class ids, -1 between clips.
    """

    values: Array
    chosen: Array
    truth: Array

    @property
    def count(self) -> int:
        """The number of classes, background apart."""
        return int(self.values.shape[1]) - 1

    def softened(self, temperature: float) -> SplitScores:
        """The same at a temperature."""
        return self if temperature == 1 else replace(self, values=soften(self.values, temperature))


def split_scores(run: Trained, split: Split, *, device: str = "auto") -> SplitScores:
    """A run's scores, decisions and the truth of a split prepared for its task.

    Raises:
        UsageError: for a task without events.
    """
    from avel.data.resident import resident

    task, target = task_named(run.card["task"]), torch_device(device)
    if not task.classifies:
        raise UsageError(f"a run of {task.name} detects no events", expected="task sel or wsel")
    predict = task.predictor(run.network.to(target), resident(split), device=target)
    labels, scores = (np.asarray(a) for a in predict(split)[:2])
    return padded_scores(scores, labels, np.asarray(split.labels))


def padded_scores(scores: Array, labels: Array, truth: Array) -> SplitScores:
    """(N, T, C+1) scores and (N, T) ids as :class:`SplitScores`; no gap closes the padding."""
    room = max(GAPS) + 1
    background = scores.shape[-1] - 1
    wide = ((0, 0), (0, room))
    known = np.pad(truth, wide, constant_values=-1)
    values = np.pad(scores.astype(np.float32), (*wide, (0, 0)))
    values[known < 0] = np.eye(background + 1, dtype=np.float32)[background]
    chosen = np.where(known < 0, -1, np.pad(labels, wide, constant_values=-1))
    return SplitScores(values.reshape(-1, background + 1), chosen.ravel(), known.ravel())


def event_counts(
    scores: SplitScores, rule: Thresholds, class_id: int, *, step: float = 1.0
) -> tuple[int, int, int]:
    """Of one class: correct predicted events, predicted events, true events."""
    allowed = scores.truth >= 0
    seeds, over = masks(scores.values[:, class_id], scores.chosen == class_id, rule, allowed)
    starts, stops = spans(seeds, over, max_gap=gap_segments(rule, step))
    in_event = np.zeros(len(over), dtype=bool)
    for first, stop in zip(starts, stops, strict=True):
        if clock.lasts(0.0, clock.segments_to_seconds(int(stop - first), step), rule.min_duration):
            in_event[first:stop] = True
    predicted, true = _runs(in_event), _runs(scores.truth == class_id)
    return len(match_events(predicted, true, IOU)[0]), len(predicted), len(true)


def _runs(in_event: Bools) -> Any:
    return event_runs(np.where(in_event, 0, 1)[None], 1)


def event_f1(
    scores: SplitScores, decision: Decision, names: Sequence[str], *, step: float
) -> float:
    """F1 of whole events at an IoU of 0.5 under a decision, summed over classes (micro).

    The scores are taken as they are: soften them first.
    """
    return _f1(_counts(scores, decision, names, step))


def _f1(counts: Any) -> float:
    hits, predicted, true = (int(c) for c in counts)
    return 2 * hits / (predicted + true) if predicted + true else float("nan")


def candidates(step: float) -> Iterator[Thresholds]:
    """The candidate rules, simple ones first."""
    for length, gap, share, threshold in product(LENGTHS, GAPS, SHARES, THRESHOLDS):
        low = None if share is None else share * (0.5 if threshold is None else threshold)
        yield Thresholds(
            threshold=threshold,
            low_threshold=low,
            min_duration=clock.segments_to_seconds(length, step),
            max_gap=clock.segments_to_seconds(gap, step),
        )


def choose(
    scores: SplitScores,
    names: Sequence[str],
    *,
    step: float = 1.0,
    calibrate: bool = True,
    recordings: int = LEAVE_ONE_OUT,
) -> Decision:
    """The decision with the highest event F1; of equal ones the simplest.

    First the temperature, by likelihood, where it makes the calibration error smaller too; then one
    rule for all classes, the paper's unless another gains :func:`margin`; then a
    threshold of its own for each class that has ``FEWEST`` true events and gains as much by it.
    The gain on the split that it was chosen on is too high; another split gives the true one.

    Args:
        scores: The scores of a validation split, as the model gave them.
        names: The C class names.
        step: Seconds a segment.
        calibrate: False leaves the temperature at 1.
        recordings: How many the scores are of: of fewer than 20 the logarithm of the temperature
            is shrunk in their proportion.

    Raises:
        UsageError: if the scores are no distributions and ``calibrate`` is True.
    """
    temperature = 1.0
    if calibrate:
        fitted = calibration.fit_temperature(scores.values, scores.truth)
        temperature = round(fitted ** min(1.0, recordings / LEAVE_ONE_OUT), 4)
    soft = scores.softened(temperature)
    if calibrate and _ece(soft) >= _ece(scores):  # few clips, or a model at chance
        temperature, soft = 1.0, scores
    rule = Thresholds()
    events = len(event_runs(soft.truth[None], soft.count))
    best = event_f1(soft, Decision(rule), names, step=step) + margin(events)
    for candidate in candidates(step):
        f1 = event_f1(soft, Decision(candidate), names, step=step)
        if f1 > best:
            best, rule = f1, candidate
    class_rules = {}
    for class_id, name in enumerate(names):
        own_rule = _own_rule(soft, rule, class_id, step)
        if own_rule is not None:
            class_rules[name] = own_rule
    return Decision(rule, class_rules, temperature=temperature)


def _ece(scores: SplitScores) -> float:
    return calibration.reliability(scores.values, scores.truth).ece


def _own_rule(
    scores: SplitScores, rule: Thresholds, class_id: int, step: float
) -> Thresholds | None:
    counts = event_counts(scores, rule, class_id, step=step)
    if counts[2] < FEWEST:
        return None
    best, chosen = _f1(counts) + margin(counts[2]), None
    for threshold in THRESHOLDS:
        top = 1.0 if threshold is None else threshold
        low = None if rule.low_threshold is None else min(rule.low_threshold, top)
        candidate = replace(rule, threshold=threshold, low_threshold=low)
        f1 = _f1(event_counts(scores, candidate, class_id, step=step))
        if f1 > best:
            best, chosen = f1, candidate
    return chosen


def margin(events: int) -> float:
    """The event F1 that a rule must gain on a split of so many true events to be more than chance.

    Each further detected event adds about one over their number.
    """
    return max(GAIN, EVENTS / max(1, events))


def choose_checked(
    scores: SplitScores,
    groups: Sequence[str],
    names: Sequence[str],
    *,
    step: float = 1.0,
    calibrate: bool = True,
) -> tuple[Decision, Json]:
    """:func:`choose`, as far as it holds on clips that it wasn't chosen on.

    The clips are divided into five folds by recording, of fewer than 20 recordings each is a fold
    of its own (leave-one-out). For each fold a decision is chosen on the others. Where the folds'
    calibration error gets worse, the temperature stays 1; where their event F1 gets worse, the
    rule stays the paper's.

    Args:
        scores, names, step, calibrate: As for :func:`choose`.
        groups: The recording of each of the N clips.

    Returns:
        The decision, and what the folds said: ``{"count": …, "paper": F1, "tuned": F1}``; empty
        where nothing was chosen that could be worse.
    """
    recordings = list(dict.fromkeys(groups))
    known = len(recordings)
    decision = choose(scores, names, step=step, calibrate=calibrate, recordings=known)
    if decision == Decision():
        return decision, {}
    if len(recordings) < 2:
        return Decision(), {}
    count = FOLDS if len(recordings) >= LEAVE_ONE_OUT else len(recordings)
    fold_of = np.array([recordings.index(g) % count for g in groups])
    soft, paper, tuned = [], [], []
    for fold in range(count):
        rest, out = (
            _clips(scores, len(groups), mask) for mask in (fold_of != fold, fold_of == fold)
        )
        others = known - len({g for g, f in zip(groups, fold_of, strict=True) if f == fold})
        chosen = choose(rest, names, step=step, calibrate=calibrate, recordings=others)
        softened = out.softened(chosen.temperature)
        soft.append(softened)
        paper.append(_counts(out, Decision(), names, step))
        tuned.append(_counts(softened, chosen, names, step))
    if decision.temperature != 1:
        pooled = replace(
            scores, values=np.concatenate([s.values for s in soft]),
            truth=np.concatenate([s.truth for s in soft]),
        )  # fmt: skip
        if _ece(pooled) > _ece(scores):
            return choose_checked(scores, groups, names, step=step, calibrate=False)
    f1 = [_f1(np.sum(counts, axis=0)) for counts in (paper, tuned)]
    if f1[1] < f1[0]:
        decision = Decision(temperature=decision.temperature)
    return decision, {"count": count, "paper": f1[0], "tuned": f1[1]}


def _clips(scores: SplitScores, count: int, mask: Bools) -> SplitScores:
    """Some of the ``count`` clips, which all have the same number of rows."""
    rows = {
        name: getattr(scores, name).reshape(count, -1, *getattr(scores, name).shape[1:])[mask]
        for name in ("values", "chosen", "truth")
    }
    return SplitScores(
        rows["values"].reshape(-1, scores.count + 1), rows["chosen"].ravel(), rows["truth"].ravel()
    )


def _counts(scores: SplitScores, decision: Decision, names: Sequence[str], step: float) -> Any:
    """Correct, predicted and true events of all classes."""
    each = [event_counts(scores, decision.of(n), c, step=step) for c, n in enumerate(names)]
    return np.sum(each, axis=0)


def event_metrics(
    scores: SplitScores, decision: Decision, names: Sequence[str], *, step: float
) -> Json:
    """Event F1 of a split under a decision, and ECE where the scores are probabilities."""
    soft = scores.softened(decision.temperature)
    metrics: Json = {}
    if calibration.are_probabilities(soft.values, soft.truth):
        metrics["ece"] = calibration.reliability(soft.values, soft.truth).ece
    metrics["event_f1_0.5"] = event_f1(soft, decision, names, step=step)
    return metrics


def _check_unseen(run: Trained, data: Dataset) -> None:
    """Refuse validation clips that the run was trained on, as after `avel train --folds`."""
    task = task_named(run.card["task"])
    validation = choose_split(data, task, "val", len(run.classes)) if task.classifies else None
    seen = set(run.train_ids or ()) & set(validation.ids if validation else ())
    if seen and validation:
        raise UsageError(
            f"the run was trained on {len(seen)} of the {len(validation)} validation clips of "
            f"{data.name}: its scores there are too high to tune on",
            expected="validation clips that the run wasn't trained on",
            hint="give other clips with data=DIR, or tune a run that was trained without --folds",
        )


def tune(
    run: Trained, data: Dataset, *, calibrate: bool = True, device: str = "auto"
) -> tuple[Trained, Json]:
    """Choose a run's decision on the validation split; the test split is only reported.

    Args:
        run: Of task sel or wsel.
        data: What it was trained on, or other data of its classes and backbones.
        calibrate: False leaves the temperature at 1.
        device: As for :func:`avel.device.check_device`.

    Returns:
        The run with ``decision`` and ``tuning`` in its card (not saved), and what was measured:
        ``{"val": {"paper": {...}, "tuned": {...}}, "test": ...}``.

    Raises:
        UsageError: for a task without events, or a run that was trained on validation clips.
        DataError: if the data lack a split or have other classes.
        CheckpointError: if their features are of other backbones.
    """
    from avel.data.base import fingerprint

    data = align_classes(run, data)
    _check_unseen(run, data)
    names, step, task = run.classes, run.step, run.card["task"]
    measured: dict[str, Json] = {}
    decision = Decision()
    folds: Json = {}
    for name in ("val", "test"):
        split = choose_split(data, task, name, len(names))
        scores = split_scores(run, split, device=device)
        if name == "val":
            groups = [data.recording_of(clip) for clip in split.ids]
            decision, folds = choose_checked(scores, groups, names, step=step, calibrate=calibrate)
        measured[name] = {
            "paper": event_metrics(scores, Decision(), names, step=step),
            "tuned": event_metrics(scores, decision, names, step=step),
        }
    record = {
        "selection": "event F1 at IoU 0.5 on val; temperature by likelihood on val",
        "fingerprint": fingerprint(data), "simulated": data.simulated, "folds": folds, **measured,
    }  # fmt: skip
    card = {**run.card, "decision": decision.to_json(), "tuning": record}
    return replace(run, card=card), measured
