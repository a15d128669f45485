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
from avel.errors import UsageError
from avel.evaluation import calibration
from avel.evaluation.inputs import choose_split, fitting
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision, Thresholds, gap_segments, masks, soften, spans
from avel.metrics import event_runs, match_events
from avel.tasks import task_named
from avel.types import Bools, Json

Array = NDArray[Any]
#: What is tried: thresholds (None: the paper's decision), hysteresis as a share of the threshold,
#: gaps and smallest lengths in segments.
THRESHOLDS = (None, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHARES, GAPS, LENGTHS = (None, 0.5), (0, 1, 2), (0, 2, 3)
#: Another rule than the paper's must gain so much F1, and as much as so many more events found
#: would: a few that change sides are chance (five, all to one side: one in 32). The same holds
#: for a class's threshold of its own, which it can get from so many true events on.
GAIN, EVENTS, FEWEST = 0.02, 5, 10
#: Overlap from which an answered event is the true one.
IOU = 0.5


@dataclass(frozen=True)
class SplitScores:
    """What a model says of a split's clips, laid end to end with room between.

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


def answers(run: Trained, split: Split, *, batch: int = 64) -> SplitScores:
    """A run's scores, decisions and the truth of a split prepared for its task.

    Raises:
        UsageError: for a task without events.
    """
    import torch

    from avel.data.resident import resident

    task, device = task_named(run.card["task"]), torch.device("cpu")
    if not task.classifies:
        raise UsageError(f"a run of {task.name} detects no events", expected="task sel or wsel")
    predict = task.predictor(
        run.network.to(device), resident(split), batch=batch, device=device
    )  # fmt: skip
    labels, scores = (np.asarray(a) for a in predict(split)[:2])
    return laid_out(scores, labels, np.asarray(split.labels))


def laid_out(scores: Array, labels: Array, truth: Array) -> SplitScores:
    """(N, T, C+1) scores and (N, T) ids as :class:`SplitScores`, with room that no gap bridges."""
    room = max(GAPS) + 1
    background = scores.shape[-1] - 1
    wide = ((0, 0), (0, room))
    known = np.pad(truth, wide, constant_values=-1)
    values = np.pad(scores.astype(np.float32), (*wide, (0, 0)))
    values[known < 0] = np.eye(background + 1, dtype=np.float32)[background]
    chosen = np.where(known < 0, -1, np.pad(labels, wide, constant_values=-1))
    return SplitScores(values.reshape(-1, background + 1), chosen.ravel(), known.ravel())


def event_counts(
    held: SplitScores, rule: Thresholds, class_id: int, *, step: float = 1.0, iou: float = IOU
) -> tuple[int, int, int]:
    """Of one class: answered events that are true ones, answered events, true events."""
    allowed = held.truth >= 0
    seeds, over = masks(held.values[:, class_id], held.chosen == class_id, rule, allowed)
    starts, stops = spans(seeds, over, max_gap=gap_segments(rule, step))
    inside = np.zeros(len(over), dtype=bool)
    for first, stop in zip(starts, stops, strict=True):
        if clock.lasts(0.0, clock.segments_to_seconds(int(stop - first), step), rule.min_duration):
            inside[first:stop] = True
    answered, true = _runs(inside), _runs(held.truth == class_id)
    return len(match_events(answered, true, iou)[0]), len(answered), len(true)


def _runs(inside: Bools) -> Any:
    return event_runs(np.where(inside, 0, 1)[None], 1)


def event_f1(held: SplitScores, decision: Decision, names: Sequence[str], *, step: float) -> float:
    """F1 of whole events at an IoU of 0.5 under a decision, summed over classes (micro).

    The scores are taken as they are: soften them first.
    """
    counts = [event_counts(held, decision.of(name), c, step=step) for c, name in enumerate(names)]
    return _f1(np.sum(counts, axis=0))


def _f1(counts: Any) -> float:
    hits, answered, true = (int(c) for c in counts)
    return 2 * hits / (answered + true) if answered + true else float("nan")


def candidates(step: float) -> Iterator[Thresholds]:
    """The rules that are tried, simple ones first."""
    for length, gap, share, threshold in product(LENGTHS, GAPS, SHARES, THRESHOLDS):
        low = None if share is None else share * (0.5 if threshold is None else threshold)
        yield Thresholds(
            threshold=threshold,
            low_threshold=low,
            min_duration=clock.segments_to_seconds(length, step),
            max_gap=clock.segments_to_seconds(gap, step),
        )


def choose(
    held: SplitScores, names: Sequence[str], *, step: float = 1.0, calibrate: bool = True
) -> Decision:
    """The decision with the highest event F1, of those as good the simplest.

    First the temperature, by likelihood, where it makes the calibration error smaller too; then one
    rule for all classes, the paper's unless another gains what :func:`margin` asks; then a
    threshold of its own for each class that has ``FEWEST`` true events and gains as much by it.
    What it gains on the split that chose it is flattered; another split tells what it is worth.

    Args:
        held: The answers on a validation split, as the model gave them.
        names: The C class names.
        step: Seconds a segment.
        calibrate: False leaves the temperature at 1.

    Raises:
        UsageError: if the scores are no distributions and ``calibrate`` is asked for.
    """
    temperature = calibration.fit_temperature(held.values, held.truth) if calibrate else 1.0
    soft = held.softened(temperature)
    if calibrate and _ece(soft) >= _ece(held):  # few clips, or a model at chance
        temperature, soft = 1.0, held
    rule = Thresholds()
    true = len(event_runs(soft.truth[None], soft.count))
    best = event_f1(soft, Decision(rule), names, step=step) + margin(true)
    for tried in candidates(step):
        found = event_f1(soft, Decision(tried), names, step=step)
        if found > best:
            best, rule = found, tried
    own = {}
    for class_id, name in enumerate(names):
        better = _own_rule(soft, rule, class_id, step)
        if better is not None:
            own[name] = better
    return Decision(rule, own, temperature=temperature)


def _ece(held: SplitScores) -> float:
    return calibration.reliability(held.values, held.truth).ece


def _own_rule(held: SplitScores, rule: Thresholds, class_id: int, step: float) -> Thresholds | None:
    counts = event_counts(held, rule, class_id, step=step)
    if counts[2] < FEWEST:
        return None
    best, chosen = _f1(counts) + margin(counts[2]), None
    for threshold in THRESHOLDS:
        top = 1.0 if threshold is None else threshold
        low = None if rule.low_threshold is None else min(rule.low_threshold, top)
        tried = replace(rule, threshold=threshold, low_threshold=low)
        found = _f1(event_counts(held, tried, class_id, step=step))
        if found > best:
            best, chosen = found, tried
    return chosen


def margin(events: int) -> float:
    """The event F1 that a rule must gain on a split of so many true events to be more than chance.

    Each event found more adds about one over their number.
    """
    return max(GAIN, EVENTS / max(1, events))


def judged(held: SplitScores, decision: Decision, names: Sequence[str], *, step: float) -> Json:
    """Event F1 of a split under a decision, and ECE where the scores are probabilities."""
    soft = held.softened(decision.temperature)
    found: Json = {}
    if calibration.are_probabilities(soft.values, soft.truth):
        found["ece"] = calibration.reliability(soft.values, soft.truth).ece
    found["event_f1_0.5"] = event_f1(soft, decision, names, step=step)
    return found


def tune(
    run: Trained, data: Dataset, *, calibrate: bool = True, batch: int = 64
) -> tuple[Trained, Json]:
    """Choose a run's decision on the validation split; the test split is only reported.

    Args:
        run: Of task sel or wsel.
        data: What it was trained on, or other data of its classes and backbones.
        calibrate: False leaves the temperature at 1.
        batch: Clips that go through the network together.

    Returns:
        The run with ``decision`` and ``tuning`` in its card (not saved), and what was measured:
        ``{"val": {"paper": {...}, "tuned": {...}}, "test": ...}``.

    Raises:
        UsageError: for a task without events.
        DataError: if the data lack a split or have other classes.
        CheckpointError: if their features are of other backbones.
    """
    from avel.data.base import fingerprint

    data = fitting(run, data)
    names, step, task = run.classes, run.step, run.card["task"]
    found: dict[str, Json] = {}
    decision = Decision()
    for name in ("val", "test"):
        held = answers(run, choose_split(data, task, name, len(names)), batch=batch)
        if name == "val":
            decision = choose(held, names, step=step, calibrate=calibrate)
        found[name] = {
            "paper": judged(held, Decision(), names, step=step),
            "tuned": judged(held, decision, names, step=step),
        }
    told = {
        "selection": "event F1 at IoU 0.5 on val; temperature by likelihood on val",
        "fingerprint": fingerprint(data), "simulated": data.simulated, **found,
    }  # fmt: skip
    card = {**run.card, "decision": decision.to_json(), "tuning": told}
    return replace(run, card=card), found
