"""The fit of the simulation's knobs, on a world that answers in straight lines."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import load_script

#: What a row gains from one more of its knob, other than the script supposes, and where it stands.
WORLD = {
    "likeness_audio": ("A", -150.0, 66.0), "noise_visual": ("V", -4.0, 61.0),
    "likeness_visual": ("V-att", -60.0, 64.0), "shared": ("A+V", -12.0, 76.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("simulation_misfit", folder="benchmarks")


def answer(knobs: Any) -> dict[str, float]:
    start = type(knobs)()
    return {
        row: at + slope * (getattr(knobs, name) - getattr(start, name))
        for name, (row, slope, at) in WORLD.items()
    }


def test_the_fit_reaches_the_papers_four_numbers_and_moves_nothing_else(
    script: ModuleType,
) -> None:
    points: list[dict[str, float]] = []
    for _ in range(10):
        knobs = script.next_knobs(points)
        points.append({**{k: getattr(knobs, k) for k in WORLD}, **answer(knobs)})
    assert script.error([points[0]]) > 4 and script.error([points[-1]]) < script.CLOSE
    assert script.targets() == {"A": 59.5, "V": 55.3, "V-att": 58.6, "A+V": 71.4}
    others = {k: v for k, v in vars(knobs).items() if k not in WORLD}
    assert others == {k: v for k, v in vars(type(knobs)()).items() if k not in WORLD}


def test_the_best_point_is_taken_and_points_are_read_again(
    script: ModuleType, tmp_path: Path
) -> None:
    options = argparse.Namespace(folder=tmp_path)
    start = script.best(options)
    lines = ["likeness_audio,noise_visual,likeness_visual,shared,A,V,V-att,A+V"]
    lines += ["0.3,1.5,0.3,0.4,66,55.3,58.6,71.4", "0.4,1.6,0.35,0.5,59,55,58,72"]
    (tmp_path / "fit.csv").write_text("\n".join(lines) + "\n")
    knobs = script.best(options)
    assert (knobs.likeness_audio, knobs.shared) == (0.4, 0.5) != (start.likeness_audio, 0.5)


def test_what_is_fitted_is_not_among_what_it_is_measured_on(script: ModuleType) -> None:
    fitted, others = script.fitted_rows(), script.other_rows()
    assert [row.name for row in fitted] == ["A", "V", "V-att", "A+V"]
    assert {row.task for row in fitted} == {"sel"}
    kinds = {(row.paper, row.table, row.task) for row in others}
    assert kinds == {
        ("tian2018", "1", "sel"), ("tian2018", "1", "wsel"), ("xue2021", "II", "cml"),
        ("tian2018", "S1", "sel"),
    }  # fmt: skip
    assert [r.name for r in others if (r.table, r.task) == ("1", "sel")] == ["A+V-att"]
    assert not any(row in fitted for row in others)
