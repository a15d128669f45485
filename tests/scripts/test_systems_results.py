"""The table of every system on every data set is whole, and docs/results.md holds it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from avel.experiments.extra_tables import systems
from tests.conftest import ROOT, load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("systems_results")


def test_every_system_is_there_on_every_data_set(script: ModuleType) -> None:
    rows = script.read(script.RESULTS)
    assert script.data_of(rows[0]) == list(script.DATA)
    assert {(r["system"], r["task"]) for r in rows if r["model"]} == {
        (r.name, r.task) for r in systems()
    }
    for row in rows:
        measured = {data for data in script.DATA if row[f"ours_on_{data}"]}
        # of the minis there is no training of our own model
        assert measured >= set(script.DATA) - ({"pairs10"} if row["model"] == "evidence" else set())
        assert all(0 <= float(row[f"ours_on_{data}"]) <= 100 for data in measured)
    baselines = [not r["model"] for r in rows]
    assert baselines == sorted(baselines, reverse=True) and any(baselines), "on top"


def test_the_page_holds_it(script: ModuleType) -> None:
    table = script.page(script.read(script.RESULTS))
    shown = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert table in shown, "run scripts/systems_results.py"


def test_tables_are_put_side_by_side(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = "av,av,sel,,segment_accuracy,72.7"
    none = "baseline: always background,,sel,,segment_accuracy,"
    own = ",".join(script.OWN)
    for name, value, sd in (("a", "50.0", "1.5"), ("b", "", ""), ("old", "1.0", "")):
        lines = [
            f"table,system,model,task,options,metric,paper,ours_on_{name},{own}",
            f"systems,{none},20.0,,,,,,,,38,,",
            f"systems,{same},{value},{sd},3,30,,,,0,38,99,f",
            f"modalities,{same},{value},{sd},3,30,,,,0,38,99,f",
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(script, "DATA", {"a": "A", "b": "B"})
    monkeypatch.setattr(script, "SEEDS", "3")
    rows = script.join([script.read(tmp_path / f"{name}.csv") for name in ("b", "a", "old")])
    assert [r["system"] for r in rows] == ["baseline: always background", "av"]
    assert rows[1]["ours_on_a"] == "50.0" and rows[1]["sd_on_a"] == "1.5"
    assert script.data_of(rows[0]) == ["a", "b"], "the others are left out"
    assert script.join([rows, script.read(tmp_path / "a.csv")]) == rows, "a joined table goes in"
    assert script.page(rows).splitlines()[-1] == (
        "| [av](models/av.md) | SEL | 72.7 | 50.0 ± 1.5 | not run |"
    )
