"""The README's example prints what it says; the numbers of docs/results.md are ours."""

from __future__ import annotations

import csv
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text("utf-8")
TOLERANCE = 0.05
_TWO_DECIMALS = re.compile(r"(?<![\d.:])\d+\.\d\d(?!\d)")
_EXAMPLE = re.compile(r"<!-- clip: (\S+) -->\s*```python\n(.*?)```\s*```text\n(.*?)```", re.S)

EXAMPLES = _EXAMPLE.findall(README)


def alike(printed: str, promised: str) -> bool:
    """Equal but for numbers with two decimals, which may differ by ``TOLERANCE``."""
    if _TWO_DECIMALS.sub("N", printed) != _TWO_DECIMALS.sub("N", promised):
        return False
    pairs = zip(_TWO_DECIMALS.findall(printed), _TWO_DECIMALS.findall(promised), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE + 1e-9 for a, b in pairs)


def test_what_counts_as_alike() -> None:
    said = "00:00:05.000 - 00:00:13.000  bell  0.97"
    assert alike(said, said.replace("0.97", "1.00"))
    assert not alike(said, said.replace("0.97", "0.90"))
    assert not alike(said, said.replace("05.000", "05.001"))
    assert not alike(said, said.replace("bell", "cat"))


def test_everything_is_found() -> None:
    assert EXAMPLES
    assert README.count("```python") == len(EXAMPLES), "a block of Python without clip or output"


@pytest.mark.usefixtures("taggers")
@pytest.mark.parametrize(("name", "code", "text"), EXAMPLES)
def test_the_example_prints_what_it_says(name: str, code: str, text: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "src" / "avel" / "data" / "clips" / name, tmp_path / "clip.mp4")
    (tmp_path / "example.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert alike(done.stdout.strip(), text.strip()), done.stdout


def toybox_numbers() -> dict[str, list[float]]:
    """Segment accuracies of results/toybox.csv in percent, by system."""
    with (ROOT / "results" / "toybox.csv").open(newline="", encoding="utf-8") as f:
        found: dict[str, list[float]] = {}
        for row in csv.DictReader(f):
            found.setdefault(row["system"], []).append(100 * float(row["segment_accuracy"]))
    return found


#: How docs/results.md calls the baselines.
TRIVIAL = {
    "baseline: true_category": "the true category at every second (baseline)",
    "baseline: always_background": "always background (baseline)",
}


@pytest.mark.parametrize("system", toybox_numbers())
def test_toybox_numbers_are_those_of_the_results(system: str) -> None:
    values = toybox_numbers()[system]
    said = f"{statistics.mean(values):.1f}"
    if len(values) > 1:
        said += f" ± {statistics.stdev(values):.1f} (n = {len(values)})"
    assert f"| {TRIVIAL.get(system, system)} | {said} |" in RESULTS
