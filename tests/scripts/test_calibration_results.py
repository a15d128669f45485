"""The table of what tuning gives: docs/post-processing.md holds what the script's CSV says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avel.evaluation.tuning import padded_scores
from avel.inference.decision import Decision, Thresholds
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "calibration_results.py"
    spec = importlib.util.spec_from_file_location("calibration_results", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration_results"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_results(script: ModuleType) -> None:
    rows = script.read(script.RESULTS)
    held = {(r["data"], r["system"]) for r in rows}
    assert held == {(d, s) for d in script.DATA for s in script.SYSTEMS} and len(rows) == 12
    page = (ROOT / "docs" / "post-processing.md").read_text("utf-8")
    assert script.table(rows) in page, "run scripts/calibration_results.py --table"
    for name in script.DATA:
        image = f"images/reliability-{name.replace('_', '-')}.png"
        assert image in page and (ROOT / "docs" / image).is_file()


def test_a_split_is_measured_under_a_decision(script: ModuleType) -> None:
    values = np.tile([0.8, 0.2], (1, 10, 1)).astype(np.float32)  # sure of the class, half right
    truth = np.array([[0] * 5 + [1] * 5])
    held = padded_scores(values, np.zeros((1, 10), dtype=int), truth)
    found = script.measure(held, Decision(), ["bell"], 1.0)
    assert found["ece"] == pytest.approx(0.3, abs=1e-6)
    assert found["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2, abs=1e-6)
    assert found["brier"] == pytest.approx((2 * 0.04 + 2 * 0.64) / 2, abs=1e-6)
    assert found["event_f1"] == 1  # ten seconds answered, five true: an IoU of a half
    soft = script.measure(held, Decision(Thresholds(threshold=0.9), temperature=4.0), ["bell"], 1.0)
    assert soft["ece"] < 0.1 and soft["event_f1"] == 0


def test_the_table_has_means_and_deviations(script: ModuleType, tmp_path: Path) -> None:
    columns = [f"{c}_{when}" for c, *_ in script.COLUMNS for when in ("before", "after")]
    rows = [
        {"data": "pairs10", "system": "A", "seed": s, **dict.fromkeys(columns, 0.1 * (s + 1))}
        for s in range(2)
    ]
    script.write(rows, tmp_path / "c.csv")
    lines = script.table(script.read(tmp_path / "c.csv")).splitlines()
    assert (
        lines[2]
        == "| A | Pairs-10 | before | 15.0 ± 7.1 | 0.150 ± 0.071 | 0.150 ± 0.071 | 15.0 ± 7.1 |"
    )
    assert lines[3].startswith("|  |  | after | 15.0")
