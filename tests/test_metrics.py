"""Metrics against numbers worked out by hand, and against slow transcriptions of themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avel import metrics

B = 3  # background of three classes 0, 1, 2
TRUTH = np.array([[3, 0, 0, 0, 0, 3], [1, 1, 3, 3, -1, -1], [3, 3, 3, -1, -1, -1]])
PRED = np.array([[3, 3, 0, 0, 0, 3], [1, 2, 2, 3, 0, 0], [3, 3, 3, 1, 1, 1]])


def test_segment_accuracy() -> None:
    assert metrics.segment_accuracy(PRED, TRUTH) == pytest.approx(10 / 13)
    assert metrics.segment_accuracy(TRUTH, TRUTH) == 1.0
    assert math.isnan(metrics.segment_accuracy(PRED, np.full_like(TRUTH, -1)))


def test_confusion_and_class_accuracy() -> None:
    table = metrics.confusion(PRED, TRUTH, 3)
    assert table.tolist() == [[3, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 6]]
    accuracy = metrics.class_accuracy(PRED, TRUTH, 3)
    np.testing.assert_allclose(accuracy, [3 / 4, 1 / 2, np.nan, 6 / 7])


def test_clip_category() -> None:
    labels = np.array([[3, 1, 1, 0], [0, 1, 3, 3], [3, 3, 3, 3], [2, -1, -1, -1]])
    assert metrics.clip_category(labels, B).tolist() == [1, 0, 3, 2]


def test_video_accuracy() -> None:
    # clip 0: 0 and 0. Clip 1: answered 1, 2, 2, true 1. Clip 2: background both, padding unread.
    assert metrics.video_accuracy(PRED, TRUTH, B) == pytest.approx(2 / 3)
    silent = np.where(TRUTH >= 0, B, -1)
    assert metrics.video_accuracy(silent, TRUTH, B) == pytest.approx(1 / 3)


def test_background_f1() -> None:
    # true background 7 segments, answered 7 (3, 1 and 3 of the clips), 6 in common
    assert metrics.background_f1(PRED, TRUTH, B) == pytest.approx(2 * 6 / (7 + 7))
    events = np.zeros((1, 3), int)
    assert math.isnan(metrics.background_f1(events, events, B))


def test_event_runs() -> None:
    labels = np.array([[0, 0, 1, 3, 1, 1], [3, 3, 2, -1, -1, -1]])
    runs = metrics.event_runs(labels, B)
    rows = zip(runs.clip, runs.start, runs.end, runs.label, strict=True)
    assert [tuple(map(int, r)) for r in rows] == [
        (0, 0, 2, 0), (0, 2, 3, 1), (0, 4, 6, 1), (1, 2, 3, 2),
    ]  # fmt: skip
    assert runs.index.tolist() == [[0, 0, 1, -1, 2, 2], [-1, -1, 3, -1, -1, -1]]


def test_event_f1() -> None:
    # clip 0: [2,5) for [1,5), IoU 3/4. Clip 1: [0,1) for [0,2), IoU 1/2, and a wrong class-2 event.
    assert metrics.event_f1(PRED, TRUTH, B, 0.5) == pytest.approx(2 * 2 / (3 + 2))
    assert metrics.event_f1(PRED, TRUTH, B, 0.7) == pytest.approx(2 * 1 / (3 + 2))
    assert metrics.event_f1(PRED, TRUTH, B, 0.75) == pytest.approx(2 * 1 / (3 + 2))
    assert metrics.event_f1(PRED, TRUTH, B, 0.76) == 0.0


def test_an_iou_on_the_threshold_counts() -> None:
    truth, pred = np.full((1, 10), 0), np.full((1, 10), 0)
    pred[0, 7:] = B
    assert metrics.event_f1(pred, truth, B, 0.7) == 1.0


def test_two_halves_match_once() -> None:
    truth = np.array([[0, 0, 0, 3, 3, 3, 3]])
    halves = np.array([[0, 3, 0, 3, 3, 3, 3]])
    assert metrics.event_f1(halves, truth, B, 0.5) == 0.0  # a third each
    truth = np.array([[0, 0, 3, 3]])
    pred = np.array([[0, 1, 3, 3]])
    assert metrics.event_f1(pred, truth, B, 0.5) == pytest.approx(2 / 3)


def test_low_thresholds_are_refused() -> None:
    runs = metrics.event_runs(TRUTH, B)
    with pytest.raises(ValueError, match=r"0\.5"):
        metrics.match_events(runs, runs, 0.3)


def test_boundary_error() -> None:
    # clip 0: onset off by 1, offset right. Clip 1: onset right, offset off by 1. Mean of four.
    assert metrics.boundary_error(PRED, TRUTH, B) == pytest.approx(0.5)
    assert metrics.boundary_error(PRED, TRUTH, B, step=0.5) == pytest.approx(0.25)
    assert metrics.boundary_error(TRUTH, TRUTH, B) == 0.0
    assert math.isnan(metrics.boundary_error(np.full_like(TRUTH, B), TRUTH, B))


def test_best_windows_take_the_earliest_of_equals() -> None:
    costs = np.array([[3.0, 1.0, 1.0], [2.0, 2.0, 2.0], [5.0, 4.0, 0.0]])
    assert metrics.best_windows(costs).tolist() == [1, 0, 2]


def test_window_overlap() -> None:
    length = np.array([4, 4, 4, 2])
    result = metrics.window_overlap(np.array([2, 3, 7, 0]), np.array([2, 2, 2, 2]), length)
    np.testing.assert_allclose(result, [1.0, 3 / 5, 0.0, 0.0])


def slow_f1(pred: list[int], truth: list[int], iou: float) -> float:
    def events(row: list[int]) -> list[tuple[int, int, int]]:
        result, first = [], 0
        for i in range(1, len(row) + 1):
            if i == len(row) or row[i] != row[first]:
                if row[first] != B:
                    result.append((first, i, row[first]))
                first = i
        return result

    left, hits = events(pred), 0
    for s, e, c in events(truth):
        for p in left:
            shared = max(0, min(e, p[1]) - max(s, p[0]))
            if p[2] == c and shared / ((e - s) + (p[1] - p[0]) - shared) >= iou:
                left.remove(p)
                hits += 1
                break
    total = len(events(pred)) + len(events(truth))
    return 2 * hits / total if total else math.nan


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0.5, 0.7]))
def test_event_f1_is_that_of_a_plain_loop(data: st.DataObject, iou: float) -> None:
    n = data.draw(st.integers(1, 14))
    row = st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=n, max_size=n)
    pred, truth = data.draw(row), data.draw(row)
    result = metrics.event_f1(np.array([pred]), np.array([truth]), B, iou)
    assert result == pytest.approx(slow_f1(pred, truth, iou), nan_ok=True)


# ---- whether two systems differ


def systems(seed: int, *, seeds: int = 3, clips: int = 40, gain: float = 0.0) -> tuple[Any, ...]:
    """Right answers of two systems to clips of unequal length, and those lengths."""
    rng = np.random.default_rng(seed)
    of = rng.integers(1, 11, clips)
    hard = rng.uniform(0.2, 0.7, clips)
    first = rng.binomial(of, hard, (seeds, clips))
    second = rng.binomial(of, np.clip(hard + gain, 0, 1), (seeds + 1, clips))
    return first, second, of


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 60), st.floats(-0.2, 0.3))
def test_the_bootstrap_is_fair_to_both(seed: int, seeds: int, clips: int, gain: float) -> None:
    first, second, of = systems(seed, seeds=seeds, clips=clips, gain=gain)
    there = metrics.paired_bootstrap(first, second, of, resamples=300)
    back = metrics.paired_bootstrap(second, first, of, resamples=300)
    assert there.gain == pytest.approx(-back.gain)
    np.testing.assert_allclose(there.clips, [-x for x in back.clips[::-1]], atol=1e-12)
    assert there == metrics.paired_bootstrap(first, second, of, resamples=300)
    assert -1 <= there.both[0] <= there.both[1] <= 1
    shares = [(system.sum(1) / of.sum()).mean() for system in (first, second)]
    assert there.gain == pytest.approx(shares[1] - shares[0])
    alike = metrics.paired_bootstrap(first, first, of, resamples=300)
    assert (alike.gain, alike.clips, alike.real) == (0.0, (0.0, 0.0), False)


def test_the_bootstrap_is_paired() -> None:
    """Clips that are hard for both widen no interval: only where the two differ counts."""
    hard = np.array([[0, 10] * 30])
    of = np.full(60, 10)
    always = metrics.paired_bootstrap(np.minimum(hard, 9), np.minimum(hard, 9) + 1, of)
    assert always.gain == pytest.approx(0.1) and always.real
    np.testing.assert_allclose(always.clips, (0.1, 0.1))


def test_seeds_that_differ_widen_the_second_interval_alone() -> None:
    of = np.full(50, 10)
    first = np.repeat([[3], [5], [7]], 50, 1)  # a seed is good or bad at all clips alike
    result = metrics.paired_bootstrap(first, np.full((3, 50), 6), of)
    np.testing.assert_allclose(result.clips, (0.1, 0.1))
    assert result.both[0] < 0 < result.both[1] and not result.real
    steady = metrics.paired_bootstrap(np.full((3, 50), 5), np.full((3, 50), 6), of)
    np.testing.assert_allclose(steady.both, (0.1, 0.1))


def test_what_does_not_differ_is_seldom_called_real() -> None:
    """Two systems of one kind: 95 % intervals are wrong about one time in twenty."""
    calls = [metrics.paired_bootstrap(*systems(i, clips=120), resamples=400) for i in range(150)]
    wrong = sum(not c.clips[0] <= 0 <= c.clips[1] for c in calls)
    assert 1 <= wrong <= 25 and sum(c.real for c in calls) <= wrong
    apart = [metrics.paired_bootstrap(*systems(i, clips=120, gain=0.15)) for i in range(5)]
    assert all(c.real and c.gain > 0 for c in apart)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_event_counts_by_clip_are_those_of_event_f1(seed: int, clips: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = rng.integers(0, 3, (2, clips, 8))
    truth[:, 6:] = -1
    paired, total = metrics.event_counts(pred, truth, 2, 0.5)
    assert paired.shape == total.shape == (clips,) and (paired <= total).all()
    f1 = metrics.event_f1(pred, truth, 2, 0.5)
    assert paired.sum() / total.sum() == pytest.approx(f1) if total.any() else np.isnan(f1)
    alone = [metrics.event_counts(pred[[i]], truth[[i]], 2, 0.5) for i in range(clips)]
    assert [int(p[0]) for p, _ in alone] == paired.tolist()


def test_the_bootstrap_of_event_f1_divides_by_each_systems_own_events() -> None:
    """Checked against F1 computed anew on the resampled clips."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, (30, 10))
    preds = [np.where(rng.random(truth.shape) < p, truth, 2) for p in (0.95, 0.8, 0.7)]
    counts = [metrics.event_counts(pred, truth, 2, 0.5) for pred in preds]
    first, first_of = (np.stack(c) for c in zip(*counts[:2], strict=True))
    second, second_of = (np.stack(c) for c in zip(*counts[2:], strict=True))
    result = metrics.paired_bootstrap(first, second, (first_of, second_of), resamples=400, seed=3)
    f1 = [metrics.event_f1(pred, truth, 2, 0.5) for pred in preds]
    assert result.gain == pytest.approx(f1[2] - np.mean(f1[:2]))
    drawn = metrics.draw_clips(np.random.default_rng(3), 30, 400)
    gains = []
    for times in drawn:
        rows = np.repeat(np.arange(30), times)
        again = [metrics.event_f1(pred[rows], truth[rows], 2, 0.5) for pred in preds]
        gains.append(again[2] - np.mean(again[:2]))
    np.testing.assert_allclose(result.clips, np.percentile(gains, (2.5, 97.5)))
    same = metrics.paired_bootstrap(first, first, (first_of, first_of), resamples=100)
    assert (same.gain, same.clips) == (0.0, (0.0, 0.0))


def test_resamples_without_an_event_are_left_out() -> None:
    one, none = np.array([[2, 0, 0]]), np.array([[0, 0, 0]])
    of = np.array([[2, 0, 0]])
    result = metrics.paired_bootstrap(none, one, (of, of), resamples=200)
    assert result.gain == 1.0 and result.clips == (1.0, 1.0)
    with pytest.raises(ValueError, match="no prediction"):
        metrics.paired_bootstrap(one, one, (of, none))
    with pytest.raises(ValueError, match="expected"):
        metrics.paired_bootstrap(one, one, (of, of[:, :2]))


def test_students_quantiles() -> None:
    # from the tables of Fisher and Yates
    for degrees, exact in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (120, 1.9799)):
        assert metrics.student_quantile(0.975, degrees) == pytest.approx(exact, abs=2e-4)


def test_what_the_bootstrap_refuses() -> None:
    first, second, of = systems(0)
    with pytest.raises(ValueError, match="expected"):
        metrics.paired_bootstrap(first, second[:, :-1], of)
    with pytest.raises(ValueError, match="no prediction"):
        metrics.paired_bootstrap(first, second, np.zeros_like(of))
    with pytest.raises(ValueError, match="no prediction"):
        metrics.paired_bootstrap(first[:0], second, of)


# ---- pointing


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)),
    st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip
def test_the_cells_of_a_box(
    corner: tuple[float, float], size: tuple[float, float], height: int, width: int
) -> None:
    box = np.array([[*corner, min(1, corner[0] + size[0]), min(1, corner[1] + size[1])]])
    cells = metrics.cells_in(box, height, width)[0]
    assert cells.any(), "the smallest thing has one"
    rows, columns = np.nonzero(cells)
    for i, j in zip(rows, columns, strict=True):  # every one of them touches the box
        assert i / height <= box[0, 3] and (i + 1) / height >= box[0, 1]
        assert j / width <= box[0, 2] and (j + 1) / width >= box[0, 0]
    for i, j in np.ndindex(height, width):  # and no one whose centre lies in it is left out
        x, y = (j + 0.5) / width, (i + 0.5) / height
        if box[0, 0] <= x < box[0, 2] and box[0, 1] <= y < box[0, 3]:
            assert cells[i, j]


def test_pointing_by_hand() -> None:
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 1] = maps[1, 1, 0] = maps[2, 1, 1] = 1.0
    boxes = np.array([[0.6, 0.1, 0.9, 0.4], [0.6, 0.1, 0.9, 0.4], [0.0, 0.0, 1.0, 1.0]])
    assert metrics.pointing(maps, boxes).tolist() == [True, False, True]
