"""Comparisons of two runs: by clips, and by folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avel.cli.main import main
from avel.data.base import Dataset, Split, load_dataset
from avel.errors import UsageError
from avel.evaluation.comparison import MetricComparison, compare_evaluations, compare_folds
from avel.evaluation.cross_validation import Fold, Folds
from avel.evaluation.evaluate import Evaluation, Measured, evaluate
from avel.inference.load import load_trained
from avel.tasks import task_named
from tests.evaluation.test_evaluate import write_folder
from tests.training_data import SMALL, make_dataset


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(unequal=True)


def evaluation(predictions: dict[str, Any]) -> Evaluation:
    measured = (Measured("segment_accuracy", (1.0,)), Measured("event_f1_0.5", (float("nan"),)))
    return Evaluation(
        "linear", "sel", "supervised", {}, "clips", "test", "", simulated=False, clips=4,
        seeds=(0,), selection="", measured=measured, baselines={}, classes=(),
        predictions=(predictions,),
    )  # fmt: skip


def test_two_runs_are_compared_on_the_same_clips(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("avel.evaluation.comparison.LEAST_CLIPS", 9)
    root = write_folder(tmp_path / "clips", data)
    train = ["train", "cspa_csea", f"data={root}", "batch=8", "precision=float32", *SMALL]
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert main([*train, "epochs=2", "-o", one, "--seeds", "2"]) == 0
    assert main([*train, "epochs=1", "lr=1e-9", "-o", other]) == 0
    capsys.readouterr()
    assert main(["compare", one, one]) == 0
    same = capsys.readouterr().out
    for metric in ("segment_accuracy", "event_f1_0.5"):
        assert f"+0.00  {metric}, 9 clips of test of clips" in same
    assert same.count("over clips +0.00 to +0.00") == same.count("no difference can be told") == 2
    assert main(["compare", one, other]) == 0
    lines = capsys.readouterr().out.splitlines()
    evaluations = [evaluate([load_trained(f) for f in folders], load_dataset("folder", root=root))
                   for folders in (sorted(Path(one).iterdir()), [Path(other)])]  # fmt: skip
    for block, metric in ((lines[:5], "segment_accuracy"), (lines[5:], "event_f1_0.5")):
        scores = [float(line.split()[0]) for line in block[:3]]
        assert scores[2] == pytest.approx(scores[1] - scores[0], abs=0.011)
        assert scores[:2] == [round(100 * e[metric].mean, 2) for e in evaluations]
        assert f"{metric}, " in block[2] and "(2 seeds)" in block[0] and "(1 seed)" in block[1]
    assert main(["compare", one, other, "epochs=3"]) == 2
    assert "has no meaning" in capsys.readouterr().err


def test_no_difference_is_claimed_over_a_few_clips() -> None:
    apart = (("clips", (0.2, 0.4)),)
    assert MetricComparison("m", (0.1, 0.4), 0.3, apart, clips=20).real
    assert MetricComparison("m", (0.1, 0.4), 0.3, apart).real, "over folds"
    few = MetricComparison("m", (0.1, 0.4), 0.3, apart, clips=19)
    assert few.too_few and not few.real


def test_cross_validations_are_compared_fold_by_fold(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "clips", data)
    train = ["train", "linear", f"data={root}", "precision=float32", "-o"]
    runs = {name: str(tmp_path / name) for name in ("one", "other", "more", "plain")}
    assert main([*train, runs["one"], "epochs=2", "--folds", "3"]) == 0
    assert main([*train, runs["other"], "epochs=1", "lr=1e-9", "--folds", "3"]) == 0
    assert main([*train, runs["more"], "epochs=1", "--folds", "4"]) == 0
    assert main([*train, runs["plain"], "epochs=1"]) == 0
    capsys.readouterr()
    assert main(["compare", runs["one"], runs["other"]]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (Folds.load(Path(runs[name])) for name in ("one", "other"))
    assert first is not None and second is not None
    for block, metric in ((lines[:5], "segment_accuracy"), (lines[5:], "event_f1_0.5")):
        scores = [float(line.split()[0]) for line in block[:3]]
        assert scores[0] == round(100 * first[metric].mean, 2)
        assert scores[1] == round(100 * second[metric].mean, 2)
        assert f"{metric}, {first.clips} clips of clips" in block[2] and "over 3 folds" in block[3]
    assert main(["compare", runs["one"], runs["one"]]) == 0
    assert "over 3 folds +0.00 to +0.00" in capsys.readouterr().out
    assert main(["compare", runs["one"], runs["more"]]) == 2
    assert "different folds" in capsys.readouterr().err
    for pair in (["one", "plain"], ["plain", "one"]):
        assert main(["compare", *(runs[name] for name in pair)]) == 2
        error = capsys.readouterr().err
        assert f"{runs['one']} is a cross-validation, and {runs['plain']} is not" in error
    assert main(["compare", runs["one"], runs["plain"], "--split", "test"]) == 0
    assert "clips of test of" in capsys.readouterr().out


def _folds(values: Sequence[float], *, event_f1: Sequence[float] | None = None) -> Folds:
    folds = tuple(
        Fold(0, number, 4, 40, 1, {"segment_accuracy": value, "event_f1_0.5": f1}, {})
        for number, (value, f1) in enumerate(zip(values, event_f1 or values, strict=True), 1)
    )
    return Folds("linear", "sel", "clips", 20, 20, folds, 1)


def test_the_interval_over_folds_is_that_of_the_corrected_t_test() -> None:
    first = _folds([0.5, 0.6, 0.4, 0.5, 0.5])
    second = _folds([0.6, 0.6, 0.5, 0.7, 0.5])
    accuracy, _ = compare_folds(first, second)
    gain = np.array([0.1, 0, 0.1, 0.2, 0])
    reach = 2.7764 * np.sqrt((1 / 5 + 1 / 4) * gain.var(ddof=1))
    ((name, interval),) = accuracy.intervals
    assert name == "5 folds" and accuracy.gain == pytest.approx(0.08) and not accuracy.real
    np.testing.assert_allclose(interval, (0.08 - reach, 0.08 + reach), atol=1e-5)
    steady, _ = compare_folds(first, _folds([0.6, 0.7, 0.5, 0.6, 0.61]))
    assert steady.real
    few = _folds([0.5, 0.5, 0.5], event_f1=[0.5, np.nan, np.nan])
    _, events = compare_folds(few, few)
    assert "1 folds have events" in events.missing


def test_event_f1_is_compared_where_there_are_events() -> None:
    truth = np.full((4, 5), 2)
    split = Split("test", tuple("abcd"), np.zeros((4, 5, 1)), np.zeros((4, 5, 1, 1, 1)),
                  np.full(4, 5), truth)  # fmt: skip
    silent = evaluation({"labels": truth.tolist()})
    accuracy, events = compare_evaluations(silent, silent, split, 2)
    assert accuracy.gain == 0 and "have no events" in events.missing
    windows = {"a2v": [0, 1], "v2a": [1, 0]}
    cml = replace(evaluation(windows), task="cml")
    with pytest.raises(UsageError, match="cml detects no events"):
        task_named("cml").event_counts_by_clip(cml.predictions[0], split, 2)
