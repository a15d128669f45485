"""results/: every table is listed with its machines, and figures of speed name the processor."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, load_script

RESULTS = ROOT / "results"
TABLES = sorted(p.name for p in RESULTS.glob("*.csv"))
#: A column of times or of memory, by its name.
MEASURED = re.compile(r"(^|_)(s|ms|seconds|minutes|mb)(_|$)")
#: Columns that look so, but show no machine's speed; why.
NOT_SPEED = {
    "pairs10_maps.csv": "counts seconds of video",
    "pairs10_taggers_maps.csv": "likewise",
    "evidence_ablation.csv": "a training beside other work, which no page quotes",
    "evidence_ablation_cml.csv": "likewise",
    "evidence_bounds.csv": "likewise",
    "full_scale.csv": "measured before the script named the processor",
    "training_curves.csv": "the rows at AVE's scale were, likewise",
}


def rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def listed() -> dict[tuple[str, ...], tuple[str, bool]]:
    """The tables of each line of results/README.md, its machines, whether it is measured."""
    lines = {}
    for line in (RESULTS / "README.md").read_text("utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split(" | ")]
        names = tuple(re.findall(r"`(\w+\.csv)`", cells[0]))
        if line.startswith("|") and names:
            lines[names] = cells[-1], "not measured yet" not in cells[0]
    return lines


def test_the_readme_lists_every_table_once() -> None:
    names = [n for group, (_, measured) in listed().items() if measured for n in group]
    assert sorted(names) == TABLES
    assert not [n for g, (_, m) in listed().items() if not m for n in g if n in TABLES]


@pytest.mark.parametrize("names", [n for n, (_, measured) in listed().items() if measured])
def test_the_readme_names_the_machines_of_a_table(names: tuple[str, ...]) -> None:
    machine_class = load_script("common", folder="benchmarks").machine_class
    classes = {machine_class(r["units"]) for n in names for r in rows(n) if r.get("units")}
    assert listed()[names][0] == (", ".join(sorted(classes)) or "–")


@pytest.mark.parametrize("name", TABLES)
def test_figures_of_speed_name_the_processor(name: str) -> None:
    table = rows(name)
    columns = [c for c in table[0] if MEASURED.search(c)]
    timed = [r for r in table if any(r[c] for c in columns)]
    nameless = [r for r in timed if not (r.get("cpu") and r.get("cores") and r.get("units"))]
    assert bool(nameless) == (name in NOT_SPEED), nameless[:1]


def test_rows_of_other_machines_and_cases_stay(tmp_path: Path) -> None:
    common = load_script("common", folder="benchmarks")
    path = tmp_path / "table.csv"

    def row(case: str, value: int, units: str = "avx2", **more: Any) -> dict[str, Any]:
        return {"case": case, "value": value, "cpu": "x", "cores": 2, "units": units, **more}

    def written() -> list[tuple[str, ...]]:
        with path.open(newline="", encoding="utf-8") as f:
            return [(r["case"], r["value"], r["units"]) for r in csv.DictReader(f)]

    common.write_csv(path, [row("a", 1), row("b", 2)], beside=True)
    common.write_csv(path, [row("a", 3, "avx2 amx_bf16")], beside=True)
    assert written() == [("a", "1", "avx2"), ("b", "2", "avx2"), ("a", "3", "avx2 amx_bf16")]
    common.write_csv(path, [row("b", 4, new=1)], beside=True, case=("case",))
    assert written() == [("a", "1", "avx2"), ("a", "3", "avx2 amx_bf16"), ("b", "4", "avx2")]
    common.write_csv(path, [row("c", 5)], beside=True)
    assert written() == [("a", "3", "avx2 amx_bf16"), ("c", "5", "avx2")]
    common.write_csv(path, [row("d", 6)])
    assert written() == [("d", "6", "avx2")]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("avx2 avx512f avx512_bf16 amx_bf16", "AMX"),
        ("avx2 avx512f avx512_vnni avx512_bf16", "AVX-512 bf16"),
        ("avx2 avx512f", "AVX-512"),
        ("avx2", "AVX2"),
    ],
)
def test_machine_class(units: str, expected: str) -> None:
    assert load_script("common", folder="benchmarks").machine_class(units) == expected
