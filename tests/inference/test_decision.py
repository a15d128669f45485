"""Decisions: thresholds, hysteresis, gaps, smallest lengths; as plain data and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avel.errors import UsageError
from avel.inference.decision import Decision, Thresholds, soften, spans
from avel.inference.localizer import to_events, tuned
from avel.types import Bools, Grid, Scores

NAMES = ("bell", "dog")


def scores_of(bell: list[float], *, step: float = 1.0, audible: list[bool] | None = None) -> Scores:
    """Scores of two classes, the second one never likely; labels say bell from 0.5 on."""
    values = np.array([[p, (1 - p) * 0.1, (1 - p) * 0.9] for p in bell])
    labels = np.where(values[:, 0] >= 0.5, 0, 2)
    heard = None if audible is None else np.array(audible)
    return Scores(values, NAMES, Grid(len(bell) * step, step), labels, audible=heard)


def found(bell: list[float], rule: Thresholds, **more: object) -> list[tuple[float, float]]:
    scores = scores_of(bell, **more)  # type: ignore[arg-type]
    return [(e.start, e.end) for e in to_events(scores, decision=Decision(rule))]


P = [0.1, 0.4, 0.8, 0.4, 0.1, 0.4, 0.1, 0.6, 0.9]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Thresholds(), [(2, 3), (7, 9)]),
        (Thresholds(threshold=0.4), [(1, 4), (5, 6), (7, 9)]),
        (Thresholds(threshold=0.7), [(2, 3), (8, 9)]),
        (
            Thresholds(threshold=0.7, low_threshold=0.4),
            [(1, 4), (7, 9)],
        ),  # 5 is likely enough, but has no seed
        (Thresholds(low_threshold=0.4), [(1, 4), (7, 9)]),
        (Thresholds(threshold=0.4, max_gap=1), [(1, 9)]),
        (Thresholds(threshold=0.7, max_gap=4), [(2, 3), (8, 9)]),
        (Thresholds(threshold=0.7, max_gap=5), [(2, 9)]),
        (Thresholds(threshold=0.4, min_duration=2), [(1, 4), (7, 9)]),
        (
            Thresholds(threshold=0.7, max_gap=5, min_duration=7),
            [(2, 9)],
        ),  # bridged first, then judged
        (Thresholds(threshold=0.95), []),
    ],
)
def test_a_rule_finds(rule: Thresholds, expected: list[tuple[float, float]]) -> None:
    assert found(P, rule) == expected


def test_half_seconds_and_silence() -> None:
    assert found(P, Thresholds(threshold=0.4, max_gap=0.5), step=0.5) == [(0.5, 4.5)]
    assert found(P, Thresholds(threshold=0.4, max_gap=0.4), step=0.5) == [
        (0.5, 2),
        (2.5, 3),
        (3.5, 4.5),
    ]
    heard = [True, True, False] + [True] * 6
    assert found(P, Thresholds(low_threshold=0.4), audible=heard) == [
        (7, 9)
    ]  # what is silent begins nothing
    assert found(P, Thresholds(threshold=0.4, max_gap=1), audible=heard) == [(1, 9)]


def test_a_class_may_have_a_rule_of_its_own() -> None:
    scores = scores_of([0.6, 0.6, 0.2, 0.2])
    decision = Decision(Thresholds(threshold=0.5), {"dog": Thresholds(threshold=0.08)})
    assert [(e.start, e.end, e.label) for e in to_events(scores, decision=decision)] == [
        (0, 2, "bell"), (2, 4, "dog"),
    ]  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.booleans(), max_size=30), st.lists(st.booleans(), max_size=30), st.integers(0, 4)
)
def test_spans_hold_a_seed_and_lie_further_apart_than_what_is_bridged(
    seeds: list[bool], more: list[bool], bridge: int
) -> None:
    n = min(len(seeds), len(more))
    seed: Bools = np.array(seeds[:n], dtype=bool)
    over: Bools = seed | np.array(more[:n], dtype=bool)
    starts, stops = spans(seed, over, max_gap=bridge)
    inside = np.zeros(n, dtype=bool)
    for a, b in zip(starts, stops, strict=True):
        assert a < b and seed[a:b].any() and over[a] and over[b - 1]
        inside[a:b] = True
    assert (starts[1:] - stops[:-1] > bridge).all() and (inside >= seed).all()


rules = st.builds(
    Thresholds,
    threshold=st.none() | st.floats(0.3, 1),
    low_threshold=st.none() | st.floats(0.01, 0.3),
    min_duration=st.floats(0, 9),
    max_gap=st.floats(0, 9),
)


@settings(deadline=None)
@given(
    rules, st.dictionaries(st.text(max_size=9), rules), st.booleans(), st.floats(0.05, 20),
    st.floats(0.01, 1), st.floats(0.01, 1),
)  # fmt: skip
def test_decisions_return_as_they_went(
    rule: Thresholds,
    classes: dict[str, Thresholds],
    both: bool,
    temperature: float,
    audio: float,
    visual: float,
) -> None:
    decision = Decision(rule, classes, both, temperature, audio, visual)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision
    assert tuned({"decision": decision.to_json()}) == decision
    assert tuned({}) == Decision()


GOOD = Decision().to_json()


def test_a_decision_without_thresholds_of_one_modality_is_read() -> None:
    old = {k: v for k, v in GOOD.items() if k not in ("audio_threshold", "visual_threshold")}
    assert len(old) == len(GOOD) - 2
    assert Decision.from_json(old) == Decision(audio_threshold=0.5, visual_threshold=0.5)


@pytest.mark.parametrize(
    "held",
    [
        None, [], {}, {**GOOD, "rule": None}, {**GOOD, "rule": {"threshold": 2}},
        {**GOOD, "rule": {"threshold": "high"}}, {**GOOD, "rule": {"treshold": 0.5}},
        {**GOOD, "rule": {"low_threshold": 0.5, "threshold": 0.3}}, {**GOOD, "temperature": 0},
        {**GOOD, "temperature": float("nan")}, {**GOOD, "temperature": True},
        {**GOOD, "classes": [1]}, {**GOOD, "classes": {"a": 3}}, {**GOOD, "require_both": 1},
        {**GOOD, "audio_threshold": 0}, {**GOOD, "visual_threshold": 1.5},
        {**GOOD, "audio_threshold": None}, {**GOOD, "visual_threshold": "high"},
        {**GOOD, "rule": {"max_gap": -1}}, {**GOOD, "rule": {"min_duration": 1e9}},
    ],
)  # fmt: skip
def test_what_is_no_decision_is_refused(held: object) -> None:
    with pytest.raises(UsageError):
        Decision.from_json(held)


def test_what_a_caller_asks_for_comes_first() -> None:
    stored = Decision(Thresholds(0.6, 0.3, 2.0, 1.0), {"dog": Thresholds(0.9)}, True, 1.5)
    assert stored.override() == stored
    assert stored.override(threshold=0.2) == Decision(
        Thresholds(0.2, None, 2.0, 1.0), {}, True, 1.5
    )
    assert stored.override(min_duration=3.0).of("dog") == Thresholds(0.9, min_duration=3.0)
    assert not stored.override(require_both=False).require_both
    assert stored.override(min_duration=0.0).rule == Thresholds(
        0.6, 0.3, 0.0, 1.0
    )  # 0 is a length too
    assert stored.override(max_gap=0.0).rule == Thresholds(0.6, 0.3, 2.0, 0.0)
    both = stored.override(low_threshold=0.5, max_gap=2.0)
    assert (both.rule, both.of("dog")) == (
        Thresholds(0.6, 0.5, 2.0, 2.0),
        Thresholds(0.9, 0.5, 0.0, 2.0),
    )
    assert stored.override(threshold=0.8, low_threshold=0.7).rule == Thresholds(0.8, 0.7, 2.0, 1.0)
    with pytest.raises(UsageError, match=r"hysteresis.* got 0\.7"):
        stored.override(low_threshold=0.7)
    quiet = Decision(Thresholds(0.6), {"dog": Thresholds(0.2)})
    assert quiet.override(low_threshold=0.5).of("dog") == Thresholds(0.2, 0.2)


def test_what_is_asked_for_reaches_the_events() -> None:
    scores = scores_of(P)
    made = to_events(scores, threshold=0.7, low_threshold=0.4, max_gap=3, min_duration=2)
    assert [(e.start, e.end) for e in made] == [(1, 9)]
    assert [(e.start, e.end) for e in to_events(scores, low_threshold=0.4, min_duration=3)] == [
        (1, 4)
    ]


def test_temperature_softens_and_keeps_the_order() -> None:
    values = np.array([[0.9, 0.08, 0.02], [1.0, 0.0, 0.0]])
    for temperature in (0.5, 1.0, 3.0):
        made = soften(values, temperature)
        np.testing.assert_allclose(made.sum(1), 1, atol=1e-6)
        assert made.argmax(1).tolist() == [0, 0]
    assert soften(values, 3.0)[0, 0] < 0.9 < soften(values, 0.5)[0, 0]
    np.testing.assert_allclose(soften(values, 1.0), values, atol=1e-6)
    scores = scores_of(P)
    assert Decision().calibrated(scores) is scores
