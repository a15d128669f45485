"""Decisions: from scores to events, by thresholds that can be chosen, stored and read again.

Without settings a decision is the model's own, one class a segment. A :class:`Thresholds` says
where an event begins and ends (threshold, hysteresis), which gaps in it are bridged and how short
it may be;
a :class:`Decision` holds one rule for all classes, others for some, and the temperature by which
the probabilities are calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avel import clock
from avel.errors import UsageError
from avel.types import Bools, Floats, Json, Scores

Spans = tuple[NDArray[np.int64], NDArray[np.int64]]

#: The smallest and the largest temperature.
TEMPERATURES = (0.01, 100.0)
#: The largest gap and the largest minimal length of a rule, seconds.
LONGEST = 3600.0
#: Most classes with a rule of their own.
MOST = 2**16


@dataclass(frozen=True)
class Thresholds:
    """When a class's segments are an event.

    Args:
        threshold: Probability in (0, 1] that a segment must reach; None takes the segments that
            the model's own decision gives the class.
        low_threshold: Hysteresis: an event goes on, both ways, while the probability is at least
            this; in (0, threshold]. None: no hysteresis.
        min_duration: Seconds; shorter events are dropped, after gaps were bridged.
        max_gap: Seconds; gaps no longer than this, between two events of the class, become part
            of one event, whatever is seen and heard in them.

    Raises:
        UsageError: if a value is out of range.
    """

    threshold: float | None = None
    low_threshold: float | None = None
    min_duration: float = 0.0
    max_gap: float = 0.0

    def __post_init__(self) -> None:
        if not _seconds(self.min_duration):
            raise UsageError(
                f"min_duration must be 0 to {LONGEST:g} seconds, got {self.min_duration}"
            )
        if not _seconds(self.max_gap):
            raise UsageError(f"max_gap must be 0 to {LONGEST:g} seconds, got {self.max_gap}")
        top = 1.0 if self.threshold is None else self.threshold
        if not _number(top) or not 0 < top <= 1:
            raise UsageError(
                f"the threshold must be a probability above 0 and up to 1, got {self.threshold}"
            )
        if self.low_threshold is not None and not (
            _number(self.low_threshold) and 0 < self.low_threshold <= top
        ):
            raise UsageError(
                f"low_threshold (hysteresis) must be above 0 and up to {top:g}, got "
                f"{self.low_threshold}"
            )


def _number(value: object) -> bool:
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return whole and math.isfinite(value)  # type: ignore[arg-type]


def _seconds(value: object) -> bool:
    return _number(value) and 0 <= value <= LONGEST  # type: ignore[operator]


@dataclass(frozen=True)
class Decision:
    """How events are made of scores.

    Args:
        rule: For every class that has none of its own.
        classes: Rules by class name.
        require_both: An audio-visual event is heard *and* seen: segments known to be silent or
            without a picture are background. Without such knowledge nothing is dropped.
        temperature: What the logarithms of the probabilities are divided by; above 1 for a model
            that is too sure of itself.
        audio_threshold, visual_threshold: The probability in (0, 1] from which a class counts as
            audible or visible, for what is only one of them. The rules' hysteresis (no higher than
            this), gaps and smallest lengths hold there too.

    Raises:
        UsageError: if the temperature or one of the two thresholds is out of range.
    """

    rule: Thresholds = field(default_factory=Thresholds)
    classes: Mapping[str, Thresholds] = field(default_factory=dict)
    require_both: bool = True
    temperature: float = 1.0
    audio_threshold: float = 0.5
    visual_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("audio_threshold", "visual_threshold"):
            value = getattr(self, name)
            if not _number(value) or not 0 < value <= 1:
                raise UsageError(f"{name} must be a probability above 0 and up to 1, got {value}")
        first, last = TEMPERATURES
        if not _number(self.temperature) or not first <= self.temperature <= last:
            raise UsageError(f"temperature must be {first} to {last}, got {self.temperature}")

    def of(self, name: str) -> Thresholds:
        """The rule of a class."""
        return self.classes.get(name, self.rule)

    def override(
        self,
        *,
        threshold: float | None = None,
        low_threshold: float | None = None,
        min_duration: float | None = None,
        max_gap: float | None = None,
        require_both: bool = True,
    ) -> Decision:
        """The same decision with other values for every class; None leaves a value as it is.

        A threshold takes the place of all thresholds, those of single classes too, and ends the
        hysteresis that went with them. A class with a threshold below ``low_threshold`` has no
        hysteresis.

        Raises:
            UsageError: for values out of range, and for ``low_threshold`` above the threshold for
                all.
        """
        decision = replace(self, require_both=self.require_both and require_both)
        if threshold is not None:
            base = replace(self.rule, threshold=threshold, low_threshold=None)
            decision = replace(decision, rule=base, classes={})
        options = {"low_threshold": low_threshold, "min_duration": min_duration, "max_gap": max_gap}
        changes = {name: value for name, value in options.items() if value is not None}
        base = replace(decision.rule, **changes)
        return replace(
            decision,
            rule=base,
            classes={n: _changed(r, changes) for n, r in decision.classes.items()},
        )

    def calibrated(self, scores: Scores) -> Scores:
        """The scores at the decision's temperature; the labels stay."""
        if self.temperature == 1:
            return scores
        return replace(scores, values=soften(scores.values, self.temperature))

    def to_json(self) -> Json:
        """Plain data, for a checkpoint's card."""
        return {
            "rule": asdict(self.rule),
            "classes": {name: asdict(rule) for name, rule in self.classes.items()},
            "require_both": self.require_both,
            "temperature": self.temperature,
            "audio_threshold": self.audio_threshold,
            "visual_threshold": self.visual_threshold,
        }

    @classmethod
    def from_json(cls, stored: Any) -> Decision:
        """What :meth:`to_json` wrote.

        Raises:
            UsageError: if it is something else, or a value is out of range.
        """
        try:
            rules = dict(stored["classes"])
            if len(rules) > MOST or not isinstance(stored["require_both"], bool):
                raise TypeError("classes or require_both")
            return cls(
                rule=_thresholds(stored["rule"]),
                classes={str(name): _thresholds(rule) for name, rule in rules.items()},
                require_both=stored["require_both"],
                temperature=stored["temperature"],
                **{n: stored[n] for n in ("audio_threshold", "visual_threshold") if n in stored},
            )
        except (KeyError, TypeError, ValueError) as e:
            raise UsageError(
                f"it is no decision ({type(e).__name__}: {e})",
                expected="what `avel tune` writes",
                hint="tune the model again",
            ) from e


#: What the thresholds were called by earlier versions, whose checkpoints are still read.
_FORMER = {"low": "low_threshold", "min_length": "min_duration", "bridge": "max_gap"}


def _thresholds(stored: Mapping[str, Any]) -> Thresholds:
    return Thresholds(**{_FORMER.get(name, name): value for name, value in dict(stored).items()})


def _changed(rule: Thresholds, changes: Mapping[str, float]) -> Thresholds:
    """A class's own rule with the values for all classes; its threshold bounds the hysteresis."""
    values: dict[str, Any] = dict(changes)
    if rule.threshold is not None and "low_threshold" in changes:
        values["low_threshold"] = min(changes["low_threshold"], rule.threshold)
    return replace(rule, **values)


def soften(values: Floats, temperature: float) -> Floats:
    """Probabilities (..., C+1) with their logarithms divided by a temperature, summing to 1."""
    logs = np.log(np.asarray(values, dtype=np.float64).clip(1e-12)) / temperature
    logs -= logs.max(axis=-1, keepdims=True)
    raised = np.exp(logs)
    softened: Floats = (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
    return softened


def possible(scores: Scores) -> Bools:
    """(T,) where an audio-visual event can be: not where silence or no picture is known."""
    allowed = np.ones(len(scores.grid), dtype=bool)
    for known in (scores.audible, scores.visible):
        if known is not None:
            allowed &= known
    return allowed


def masks(
    values: Floats, chosen: Bools, rule: Thresholds, allowed: Bools
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of one class, (T,) each: the segments that make an event, and those that it may go on over.

    Args:
        values: (T,) its probabilities.
        chosen: (T,) where the model's own decision gives a segment to it.
        rule: Its rule.
        allowed: (T,) where events can be.
    """
    seeds = (chosen if rule.threshold is None else values >= rule.threshold) & allowed
    if rule.low_threshold is None:
        return seeds, seeds
    return seeds, seeds | ((values >= rule.low_threshold) & allowed)


def spans(seeds: Bools, over: Bools, *, max_gap: int) -> Spans:
    """First and one-past-last segments of the runs of ``over`` that hold a seed, gaps bridged.

    Args:
        seeds, over: (T,) as :func:`masks` gives them.
        max_gap: Segments; gaps no longer than this are bridged.
    """
    edges = np.diff(np.concatenate([[0], over.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    count = np.concatenate([[0], np.cumsum(seeds)])
    keep = count[stops] > count[starts]
    starts, stops = starts[keep], stops[keep]
    if len(starts) > 1 and max_gap > 0:
        apart = starts[1:] - stops[:-1] > max_gap
        starts = starts[np.concatenate([[True], apart])]
        stops = stops[np.concatenate([apart, [True]])]
    return starts, stops


def gap_segments(rule: Thresholds, step: float) -> int:
    """How many whole segments the longest gap has that a rule bridges."""
    return clock.segment_at(rule.max_gap, step)
