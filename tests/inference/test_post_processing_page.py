"""docs/post-processing.md is true: its example prints what it says, its numbers are the code's."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout

import pytest

from avel.evaluation import tuning
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "post-processing.md").read_text("utf-8")
[(CODE, PRINTED)] = re.findall(
    r"<!-- example -->\s*```python\n(.*?)```\s*```text\n(.*?)```", PAGE, re.S
)


def test_the_example_prints_what_it_says() -> None:
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(CODE, "post-processing.md", "exec"), {})
    assert said.getvalue() == PRINTED


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"of {len(list(tuning.candidates(1.0)))}" in PAGE
    assert (tuning.FEWEST, tuning.EVENTS, tuning.GAIN) == (10, 5, 0.02)
    assert tuning.margin(50) == pytest.approx(0.1) and round(100 * tuning.margin(14)) == 36
