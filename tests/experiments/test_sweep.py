"""Sweeps: table V with a control and the lambda curves, resumed, plotted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avel.errors import UsageError
from avel.experiments.sweep import CONTROL, plan_sweep, rows, sweep
from avel.figures.curves import lambda_curves
from avel.figures.sweeps import plot
from avel.models.base import models
from avel.papers import TABLE_V
from avel.papers.xue2021 import SIGMOID_GATE
from avel.training.loop import fit
from tests.training_data import SMALL, make_dataset

torch.set_num_threads(1)


def test_the_plot_has_a_panel_a_metric_and_says_that_it_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    row = {"task": "sel", "metric": "segment_accuracy", "sd": 0.0, "n": 2, "best_baseline": 82.0,
           "epochs": 3, "data": "ave", "simulated": True}  # fmt: skip
    two = [
        {**row, "row": "CSPA+CSEA", "ours": 70.0, "paper": 76.5},
        {**row, "row": "neither", "ours": 60.0, "paper": ""},
    ]
    plot("table5", [*two, {**two[0], "task": "cml", "metric": "a2v", "sd": ""}], tmp_path / "x.png")
    left, right = drawn[0].axes
    assert (left.get_title(), right.get_title()) == ("SEL", "CML, A2V")
    assert [p.get_width() for p in left.patches] == [70.0, 60.0]  # type: ignore[attr-defined]
    assert [t.get_text() for t in left.get_yticklabels()] == ["CSPA+CSEA", "neither"]
    marks = {line.get_label(): list(line.get_xdata()) for line in left.lines}  # type: ignore[arg-type]
    assert marks["paper (on AVE)"] == [76.5] and 82.0 in marks["best baseline"]
    assert "SIMULATED" in drawn[0].get_suptitle()
    plot("table5", [{**r, "simulated": False} for r in two], tmp_path / "x.png")
    assert "SIMULATED" not in drawn[1].get_suptitle()
    steps = [{**row, "row": f"lambda_s={x}", "ours": x, "paper": ""} for x in (0.0, 0.5, 1.0)]
    plot("lambda_s", steps, tmp_path / "x.png")
    assert list(drawn[2].axes[0].lines[0].get_xdata()) == [0.0, 0.5, 1.0]  # type: ignore[arg-type]
    assert "SIMULATED" in drawn[2].axes[0].get_title()


def test_table_five_has_its_rows_and_a_control() -> None:
    found = rows("table5")
    assert len(found) == 8 * 3 and {r.name for r in found} == {*TABLE_V, SIGMOID_GATE, CONTROL}
    gated = [r for r in found if r.name == SIGMOID_GATE]
    assert all(r.options == {"gate": "sigmoid"} and not r.values for r in gated)
    assert [r.options for r in rows("lambda_w")] == [{"lambda_w": i / 10} for i in range(11)]
    with pytest.raises(UsageError, match="unknown sweep"):
        rows("lambda_x")
    with pytest.raises(UsageError, match="no row of task cml"):
        rows("lambda_s", ["cml"])


def test_the_lambda_of_dam_is_a_training_each(tmp_path: Path) -> None:
    cells = plan_sweep("dam_lambda", pairs=["epochs=2"])
    assert [c.row.name for c in cells] == [f"lambda={i / 10}" for i in range(1, 11)]
    assert {c.row.task for c in cells} == {"sel"}
    assert [c.training.recipe.options["lambda_s"] for c in cells] == [i / 10 for i in range(1, 11)]
    assert len({str(c.training.identity()) for c in cells}) == 10
    assert [c.row.values for c in cells if c.row.values] == [{"segment_accuracy": 74.5}]
    row = {"task": "sel", "metric": "segment_accuracy", "paper": "", "simulated": False}
    lines = [{**row, "row": c.row.name, "ours": 60.0} for c in cells]
    label = lambda_curves(lines)[0].lines[0].axes.get_xlabel()
    assert "category" in label and "CSPA" not in label


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avel.experiments import runner as workshop
    from avel.experiments import sweep as module

    two = [r for r in rows("table5", ["cml", "sel"]) if r.name == "CSPA"]
    monkeypatch.setattr(module, "rows", lambda name, only=(): two)
    data = make_dataset(cml=True)
    pairs = [*SMALL, "epochs=1", "batch=8"]
    told: list[str] = []
    made = sweep("table5", data, out=tmp_path, pairs=pairs, mmel=["epochs=1"], progress=told.append)
    assert [(r["metric"], r["paper"], r["mmel_epochs"]) for r in made] == [
        ("a2v", 39.3, 1), ("v2a", 33.3, 1), ("mean_accuracy", 36.3, 1),
        ("segment_accuracy", 74.1, ""),
    ]  # fmt: skip
    assert [line.split()[0] for line in told] == ["1/2", "2/2"]
    plot("table5", made, tmp_path / "table5.png")
    assert (tmp_path / "table5.png").stat().st_size > 5000
    assert not list(tmp_path.rglob("state.safetensors"))
    monkeypatch.setattr(workshop, "fit", None)
    again = sweep("table5", data, out=tmp_path, pairs=pairs, mmel=["epochs=1"])
    assert again == made
    monkeypatch.setattr(workshop, "fit", fit)
    other = sweep("table5", data, out=tmp_path, pairs=[*pairs, "lr=0.1"], mmel=["epochs=1"])
    assert len(list(tmp_path.glob("cspa_csea_*/*/seed-0"))) == 5, "the first model is shared"
    assert [r["row"] for r in other] == [r["row"] for r in made]


@pytest.mark.parametrize("name", ["lambda_s", "lambda_w", "lambda_c"])
def test_lambdas_between_0_and_1_are_one_training_with_separate_heads(name: str) -> None:
    cells = plan_sweep(name)
    assert len(cells) == 11
    identities = [str(cell.training.identity()) for cell in cells]
    assert len(set(identities[1:-1])) == 1 and len(set(identities)) == 3
    usual = models.get("cspa_csea").options()[name]
    assert cells[5].training.recipe.options[name] == usual
    shared = plan_sweep(name, pairs=["heads=shared"])
    assert len({str(cell.training.identity()) for cell in shared}) == 11
