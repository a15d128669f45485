"""Scores to events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avel import clock
from avel.errors import UsageError
from avel.localization import to_events
from avel.types import Grid, Scores

A, B, BG = 0, 1, 2


def make_scores(
    labels: list[int], *, duration: float | None = None, step: float = 1.0, **senses: list[bool]
) -> Scores:
    """Scores of two classes: 0.8 on each segment's label and 0.1 elsewhere."""
    values = np.full((len(labels), 3), 0.1)
    values[np.arange(len(labels)), labels] = 0.8
    return Scores(
        values=values,
        classes=("bell", "dog"),
        grid=Grid(len(labels) * step if duration is None else duration, step),
        labels=np.array(labels),
        **{k: np.array(v) for k, v in senses.items()},
    )


def spans(events: list) -> list[tuple[float, float, str]]:
    return [(e.start, e.end, e.label) for e in events]


def test_runs_become_events_at_segment_edges() -> None:
    events = to_events(make_scores([BG, A, A, B, BG, A]))
    assert spans(events) == [(1, 3, "bell"), (3, 4, "dog"), (5, 6, "bell")]
    assert [e.score for e in events] == pytest.approx([0.8] * 3)


def test_score_is_the_mean_of_the_class_over_its_segments() -> None:
    scores = make_scores([A, A, BG])
    scores.values[:2, A] = [0.5, 0.9]
    assert to_events(scores)[0].score == pytest.approx(0.7)


def test_last_partial_segment_ends_with_the_file() -> None:
    assert spans(to_events(make_scores([BG, BG, A], duration=2.5))) == [(2, 2.5, "bell")]


def test_the_stored_decision_counts_not_the_largest_score() -> None:
    scores = make_scores([A, A])
    scores.labels[:] = [BG, B]
    assert spans(to_events(scores)) == [(1, 2, "dog")]


def test_min_length_drops_shorter_events_and_keeps_exact_ones() -> None:
    scores = make_scores([A, A, A, BG, B, B], step=0.1)
    assert spans(to_events(scores, min_length=0.3)) == [(0, pytest.approx(0.3), "bell")]
    assert to_events(scores, min_length=0.31) == []


def test_threshold_gives_overlapping_events() -> None:
    scores = make_scores([A, A, BG])
    scores.values[:] = [[0.6, 0.2, 0.2], [0.45, 0.45, 0.1], [0.1, 0.5, 0.4]]
    events = to_events(scores, threshold=0.4)
    assert spans(events) == [(0, 2, "bell"), (1, 3, "dog")]
    assert to_events(scores, threshold=0.7) == []


@pytest.mark.parametrize("sense", ["audible", "visible"])
def test_an_event_is_seen_and_heard(sense: str) -> None:
    scores = make_scores([A, A, A, A], **{sense: [True, False, True, True]})
    assert spans(to_events(scores)) == [(0, 1, "bell"), (2, 4, "bell")]
    assert spans(to_events(scores, require_both=False)) == [(0, 4, "bell")]


@pytest.mark.parametrize(
    "options",
    [{"min_length": -1}, {"min_length": float("nan")}, {"threshold": 0}, {"threshold": 1.2}],
)
def test_nonsense_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        to_events(make_scores([A]), **options)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_events_cover_exactly_the_labelled_segments(labels: list[int], step: float) -> None:
    scores = make_scores(labels, step=step)
    events = to_events(scores)
    covered = [BG] * len(labels)
    for e in events:
        for i in range(clock.segment_at(e.start, step), clock.segment_at(e.end, step)):
            assert covered[i] == BG
            covered[i] = scores.classes.index(e.label)
    assert covered == labels
    assert events == sorted(events, key=lambda e: e.start)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_half_as_threshold_is_the_decision_where_it_is_the_argmax(labels: list[int]) -> None:
    scores = make_scores(labels)
    assert to_events(scores, threshold=0.5) == to_events(scores)
