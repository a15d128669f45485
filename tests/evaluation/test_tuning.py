"""Calibration and `avel tune`: on made-up scores whose best decision is known, and on a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avel.cli.main import main
from avel.errors import CheckpointError, UsageError
from avel.evaluation import calibration, tuning
from avel.evaluation.evaluate import evaluate
from avel.evaluation.tuning import choose, event_counts, padded_scores
from avel.figures import reliability_diagram
from avel.figures.style import new_figure, save_figure
from avel.inference.checkpoint import Trained
from avel.inference.decision import Decision, Thresholds, soften
from avel.inference.load import load_trained
from avel.inference.localizer import to_events, tuned
from avel.metrics import event_f1
from avel.training.loop import fit
from avel.types import Grid, Scores
from tests.training_data import features, make_dataset, small_recipe

NAMES = ("bell", "dog")


def drawn(count: int, temperature: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are right as often as they say, sharpened: the labels are drawn from them."""
    rng = np.random.default_rng(seed)
    true = soften(rng.dirichlet([0.5] * 4, (count, 10)), 1.0)
    picks = (true.cumsum(-1) < rng.uniform(size=(count, 10, 1))).sum(-1)
    return soften(true, 1 / temperature), picks.clip(0, 3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_hidden_is_found(temperature: float) -> None:
    scores, truth = drawn(400, temperature)
    found = calibration.fit_temperature(scores, truth)
    assert found == pytest.approx(temperature, rel=0.1)
    before = calibration.reliability(scores, truth).ece
    after = calibration.reliability(soften(scores, found), truth).ece
    assert after < 0.02 and (temperature == 1 or before > 3 * after)


def test_reliability_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    truth = np.array([0, 1, 0, 1, -1])
    found = calibration.reliability(scores, truth, bins=10)
    assert found.count.tolist() == [0] * 6 + [1, 0, 1, 2]
    assert found.ece == pytest.approx((0.4 * 1 + 0.2 * 1 + 0.4 * 2) / 4)
    assert np.isnan(calibration.reliability(scores, np.full(5, -1)).ece)


def test_brier_by_hand() -> None:
    scores = np.array([[0.8, 0.2], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    assert calibration.brier(scores, np.array([0, 1, 1, -1])) == pytest.approx((0.08 + 0 + 2) / 3)
    assert calibration.brier(scores[None], np.array([[0, 1, -1, -1]])) == pytest.approx(0.04)


def test_scores_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(UsageError, match="no probabilities"):
        calibration.fit_temperature(np.ones((2, 3)), np.zeros(2, dtype=int))
    held = padded_scores(
        np.ones((2, 3, 3)), np.zeros((2, 3), dtype=int), np.zeros((2, 3), dtype=int)
    )
    assert "ece" not in tuning.event_metrics(held, Decision(), NAMES, step=1.0)
    with pytest.raises(UsageError, match="no segment"):
        calibration.fit_temperature(np.ones((2, 3)) / 3, np.full(2, -1))


def noisy(count: int = 60, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of 4 to 6 seconds: p dips to 0.45 within them, and spikes to 0.6 for one second."""
    rng = np.random.default_rng(seed)
    truth = np.full((count, 20), 2)
    p = np.full((count, 20), 0.1)
    for i in range(count):
        first, length, label = rng.integers(3, 8), rng.integers(4, 7), rng.integers(2)
        truth[i, first : first + length] = label
        p[i, first : first + length] = 0.8
        p[i, first + 1 + rng.integers(length - 2)] = 0.45
        p[i, 17] = 0.6
    owner = np.array([np.bincount(row[row < 2], minlength=2).argmax() for row in truth])
    scores = np.zeros((count, 20, 3))
    scores[np.arange(count)[:, None], np.arange(20), owner[:, None]] = p
    scores[..., 2] = 1 - p
    return scores, scores.argmax(-1), truth


def test_what_dips_and_spikes_need_is_chosen() -> None:
    held = padded_scores(*noisy())
    paper = tuning.event_f1(held, Decision(), NAMES, step=1.0)
    decision = choose(held, NAMES, calibrate=False)
    best = tuning.event_f1(held, decision, NAMES, step=1.0)
    assert paper < 0.6 and best == 1.0
    assert decision.rule.min_duration >= 2 or (decision.rule.threshold or 0) > 0.6
    assert choose(held, NAMES, calibrate=False) == decision  # the same each time


def test_a_few_events_more_are_no_reason() -> None:
    scores, labels, truth = noisy(6)
    held = padded_scores(scores, labels, truth)
    paper = tuning.event_f1(held, Decision(), NAMES, step=1.0)
    better = tuning.event_f1(held, Decision(Thresholds(0.7, 0.4)), NAMES, step=1.0)
    assert paper < better  # by some points, but of six events
    assert choose(held, NAMES, calibrate=False) == Decision()
    assert tuning.margin(6) > 0.8 and tuning.margin(50) == 0.1 and tuning.margin(1000) == 0.02


def test_a_choice_that_is_worse_on_other_clips_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = padded_scores(*noisy())
    groups = [str(i) for i in range(len(noisy()[2]))]
    decision, folds = tuning.choose_checked(scores, groups, NAMES, calibrate=False)
    assert decision == choose(scores, NAMES, calibrate=False) and folds["tuned"] == 1.0
    assert folds["count"] == 5 and folds["paper"] < 0.6
    assert tuning.choose_checked(scores, ["one"] * len(groups), NAMES) == (Decision(), {})
    bad = Decision(Thresholds(0.95, min_duration=5))
    monkeypatch.setattr(tuning, "choose", lambda *_, **__: bad)
    decision, folds = tuning.choose_checked(scores, groups, NAMES, calibrate=False)
    assert decision == Decision() and folds["tuned"] < folds["paper"]
    small = padded_scores(*noisy(6))
    assert tuning.choose_checked(small, list("aabcde"), NAMES)[1]["count"] == 5  # leave-one-out


def test_chance_alone_gives_no_class_a_rule_of_its_own() -> None:
    rng = np.random.default_rng(3)
    truth = np.full((200, 10), 10)
    for row in truth:
        first = rng.integers(0, 6)
        row[first : first + 4] = rng.integers(10)
    scores = rng.dirichlet([0.3] * 11, (200, 10)) * 0.4 + 0.6 * np.eye(11)[truth]
    names = [str(i) for i in range(10)]
    decision = choose(padded_scores(scores, scores.argmax(-1), truth), names, calibrate=False)
    assert decision.classes == {}


def test_a_perfect_model_keeps_the_paper_s_decision() -> None:
    _, _, truth = noisy()
    scores = np.eye(3)[truth] * 0.9 + 0.1 / 3
    decision = choose(padded_scores(scores, truth, truth), NAMES, calibrate=False)
    assert decision == Decision()


def test_a_class_of_its_own_kind_gets_a_rule_of_its_own() -> None:
    rng = np.random.default_rng(0)
    truth = np.full((80, 12), 2)
    scores = np.full((80, 12, 3), 0.0)
    for i in range(80):
        label, first = i % 2, rng.integers(1, 6)
        truth[i, first : first + 4] = label
        top, low = ((0.95, 0.75), (0.3, 0.05))[label]  # dog is never sure, bell never quiet
        scores[i, :, label] = low
        scores[i, first : first + 4, label] = top
    scores[..., 2] = 1 - scores[..., :2].sum(-1)
    decision = choose(padded_scores(scores, scores.argmax(-1), truth), NAMES, calibrate=False)
    assert decision.of("bell") != decision.of("dog")
    held = padded_scores(scores, scores.argmax(-1), truth)
    assert tuning.event_f1(held, decision, NAMES, step=1.0) == 1.0


def test_counting_is_that_of_the_metrics_and_of_to_events() -> None:
    scores, labels, truth = noisy(20)
    held = padded_scores(scores, labels, truth)
    assert tuning.event_f1(held, Decision(), NAMES, step=1.0) == pytest.approx(
        event_f1(labels, truth, 2, 0.5)
    )
    rule = Thresholds(threshold=0.5, low_threshold=0.3, max_gap=1.0, min_duration=2.0)
    found = [
        e
        for s, ids in zip(scores, labels, strict=True)
        for e in to_events(Scores(s, NAMES, Grid(20.0), ids), decision=Decision(rule))
    ]
    counts = np.sum([event_counts(held, rule, c) for c in range(2)], axis=0)
    assert counts[1] == len(found)


def test_clips_of_different_lengths_do_not_run_into_each_other() -> None:
    truth = np.array([[0, 0, -1, -1], [0, 0, 0, 0]])
    scores = np.full((2, 4, 3), 0.0)
    scores[..., 0] = 1.0
    held = padded_scores(scores, np.zeros((2, 4), dtype=int), truth)
    assert event_counts(held, Thresholds(max_gap=2.0), 0) == (2, 2, 2)
    assert event_counts(held, Thresholds(threshold=0.5, low_threshold=0.1), 0) == (2, 2, 2)


@pytest.fixture(scope="module")
def run() -> Trained:
    return fit("cspa_csea", make_dataset(unequal=True), recipe=small_recipe(), seed=0).trained


def test_a_run_is_tuned_and_says_what_was_seen(run: Trained, tmp_path: Path) -> None:
    made, found = tuning.tune(run, make_dataset(unequal=True))
    assert set(found) == {"val", "test"}
    before, after = found["val"]["paper"], found["val"]["tuned"]
    assert after["event_f1_0.5"] >= before["event_f1_0.5"]
    assert made.card["tuning"]["val"] == found["val"] and "decision" not in run.card
    made.save(tmp_path / "run")
    again = load_trained(tmp_path / "run")
    assert tuned(again.card) == tuned(made.card)
    np.testing.assert_array_equal(
        again.predict(features(8)).values, run.predict(features(8)).values
    )
    plain, _ = tuning.tune(run, make_dataset(unequal=True), calibrate=False)
    assert tuned(plain.card).temperature == 1


def test_evaluate_says_how_far_to_believe(run: Trained) -> None:
    data = make_dataset(unequal=True)
    plain = evaluate(run, data)
    assert 0 <= plain["ece"].mean <= 1
    made, found = tuning.tune(run, data)
    told = evaluate(made, data)
    assert told["ece"].mean == plain["ece"].mean == pytest.approx(found["test"]["paper"]["ece"])
    for name in ("ece", "event_f1_0.5"):
        assert told[f"{name}_tuned"].mean == pytest.approx(found["test"]["tuned"][name])
    other = replace(run, card={**run.card, "seed": 1})
    assert "ece_tuned" not in [m.metric for m in evaluate([other, made], data).measured]


def test_the_reliability_figure(tmp_path: Path) -> None:
    scores, truth = drawn(200, 2.5)
    before = calibration.reliability(scores, truth)
    after = calibration.reliability(soften(scores, 2.5), truth)
    figure = new_figure(4.2, 4.0)
    lines = reliability_diagram(before, after, title="made-up", ax=figure.add_subplot())
    save_figure(figure, tmp_path / "reliability.png")
    assert len(lines) == 2 and f"ECE {100 * after.ece:.1f} %" in str(lines[1].get_label())
    held = before.count > 0
    np.testing.assert_allclose(lines[0].get_ydata(), before.accuracy[held])
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_a_stored_decision_that_is_none_is_refused_with_the_model(
    run: Trained, tmp_path: Path
) -> None:
    card = {**run.card, "decision": {**Decision().to_json(), "temperature": 1e9}}
    Trained(run.network, card, run.train_ids).save(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"decision: (it is no decision|temperature)"):
        load_trained(tmp_path / "run")


def test_wrong_calls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tune", str(tmp_path / "nothing")]) == 2
    assert main(["tune", str(tmp_path), "epochs=3"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_temperature_of_few_recordings_is_shrunk() -> None:
    values, truth = drawn(400, 0.25)
    scores, names = padded_scores(values, values.argmax(-1), truth), ("a", "b", "c")
    whole, few = (choose(scores, names, recordings=n).temperature for n in (20, 3))
    assert whole < 0.35 and few == pytest.approx(whole**0.15, abs=1e-3)
    assert choose(scores, names, recordings=200).temperature == whole


def test_a_temperature_that_makes_calibration_worse_is_left_out() -> None:
    changed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        values = rng.dirichlet([0.5] * 4, (3, 10)).astype(np.float32)  # three clips, at chance
        held = tuning.padded_scores(values, values.argmax(-1), rng.integers(0, 4, (3, 10)))
        found = tuning.choose(held, ("a", "b", "c"))
        changed += found.temperature != 1
        before, after = (
            calibration.reliability(one.values, one.truth).ece
            for one in (held, held.softened(found.temperature))
        )
        assert after <= before
    assert changed, "of these some gain"
