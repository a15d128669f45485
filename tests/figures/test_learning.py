"""Learning curves: what is read of runs, and what is drawn of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avel import figures
from avel.data.base import Dataset
from avel.errors import CheckpointError, DataError, UsageError
from avel.evaluation.cross_validation import cross_validate, fit_all
from avel.figures import History, learning_curves, read_histories
from avel.training.loop import Run, fit
from tests.training_data import make_dataset, small_recipe

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(unequal=True)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = small_recipe("sel", "epochs=5", "validate_every=2")
    return fit("cspa_csea", data, recipe=recipe, out=tmp_path_factory.mktemp("run") / "run")


def history(values: list[float], *, selected: int | None = None) -> History:
    epochs = np.arange(1, len(values) + 1)
    metrics = {"segment_accuracy": np.array(values), "event_f1_0.5": np.array(values) / 2}
    return History(epochs, 1 / epochs, metrics, selected)


def test_the_history_of_a_run_is_what_it_was_trained_with(run: Run) -> None:
    assert run.folder is not None
    (read,) = read_histories(run.folder)
    assert read.epochs.tolist() == [1, 2, 3, 4, 5] and read.selected == run.best["epoch"]
    assert read.loss.tolist() == [record["loss"] for record in run.history]
    assert list(read.metrics) == ["segment_accuracy", "event_f1_0.5"]
    accuracy = read.metrics["segment_accuracy"]
    assert np.isfinite(accuracy).tolist() == [False, True, False, True, True]
    assert accuracy[4] == run.history[4]["segment_accuracy"]


def test_a_cross_validation_has_a_history_a_fold(data: Dataset, tmp_path: Path) -> None:
    recipe = small_recipe("sel", "epochs=3")
    folds = cross_validate("cspa_csea", data, 3, recipe=recipe, out=tmp_path)
    fit_all("cspa_csea", data, folds, recipe=recipe, out=tmp_path)
    read = read_histories(tmp_path)
    assert [len(h.epochs) for h in read] == [3, 3, 3]
    assert [h.selected for h in read] == [fold.epoch for fold in folds.folds]
    for one, fold in zip(read, folds.folds, strict=True):
        value = one.metrics["segment_accuracy"][fold.epoch - 1]
        assert value == fold.measured["segment_accuracy"]


def test_a_run_of_cml_has_both_directions(data: Dataset, tmp_path: Path) -> None:
    recipe = small_recipe("cml", "epochs=1")
    fit("cspa_csea", data, task="cml", recipe=recipe, out=tmp_path)
    assert list(read_histories(tmp_path)[0].metrics) == ["mean_accuracy", "a2v", "v2a"]


def test_curves_are_the_mean_of_several_trainings() -> None:
    first, second = history([0.2, 0.4, 0.9], selected=3), history([0.4, 0.6], selected=2)
    ((loss,), (accuracy, events)) = learning_curves({"runs/toy": [first, second]})
    np.testing.assert_allclose(accuracy.get_xdata(), [1, 2])  # the epochs that both have
    np.testing.assert_allclose(accuracy.get_ydata(), [30, 50])
    np.testing.assert_allclose(events.get_ydata(), [15, 25])
    np.testing.assert_allclose(loss.get_ydata(), [1, 0.5])
    assert loss.get_label() == "runs/toy, mean of 2"
    ax = accuracy.axes
    assert ax is not None
    thin = [line for line in ax.lines if line.get_linewidth() < 1]
    assert [len(np.asarray(line.get_xdata())) for line in thin] == [3, 2, 3, 2]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(np.asarray(dot.get_ydata())[0]) for dot in dots] == [90, 60]
    assert "the epoch selected" in ax.get_title()


def test_epochs_without_validation_are_passed_over() -> None:
    one = history([float("nan"), 0.5, float("nan"), 0.75])
    (_, (accuracy, _)) = learning_curves({"a": [one]})
    np.testing.assert_allclose(accuracy.get_xdata(), [2, 4])
    ax = accuracy.axes
    assert ax is not None and "selected" not in ax.get_title()


def test_runs_differ_in_colour_and_metrics_in_line() -> None:
    one = history([0.5, 0.6])
    loss, metrics = learning_curves({"a$b": [one], "b": [replace(one, simulated=True)]})
    assert [line.get_color() for line in loss] == [line.get_color() for line in metrics[::2]]
    assert loss[0].get_color() != loss[1].get_color() and loss[0].get_label() == r"a\$b"
    assert [line.get_linestyle() for line in metrics] == ["-", "--", "-", "--"]
    assert "event F1 at IoU 0.5, b" in [line.get_label() for line in metrics]
    assert "SIMULATED" in loss[0].axes.get_title()  # type: ignore[union-attr]


def test_axes_of_ones_own() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 2)
    lines = learning_curves({"a": [history([0.5])]}, axes=list(axes))
    assert lines[0][0].axes is axes[0] and lines[1][0].axes is axes[1]
    with pytest.raises(UsageError, match="two"):
        learning_curves({"a": [history([0.5])]}, axes=[axes[0]])
    for nothing in ({}, {"a": []}):
        with pytest.raises(UsageError, match="no training"):
            learning_curves(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "epoch,loss\n", "epoch,loss\n2,0.5\n", "epoch,loss\n1,x\n", "loss\n1\n", "epoch,loss\n1\n",
     "epoch,loss,segment_accuracy\n1,0.5,0.5,0.5\n2,0.5,abc\n", "epoch,loss\n1e9,1\n", "\0", None],
)  # fmt: skip
def test_a_history_that_is_none_is_named(run: Run, tmp_path: Path, text: str | None) -> None:
    assert run.folder is not None
    for name in ("card.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    if text is not None:
        (tmp_path / "history.csv").write_text(text)
    with pytest.raises(DataError, match=r"history\.csv") as error:
        read_histories(tmp_path)
    assert "avel train" in error.value.hint
    with pytest.raises(CheckpointError, match="no trained model"):
        read_histories(tmp_path / "none")
    assert figures.read_histories is read_histories
