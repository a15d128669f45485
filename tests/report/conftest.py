"""A small video for the tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report_samples import write_clip


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose name has what HTML and addresses escape; tests write beside it nowhere."""
    return write_clip(tmp_path_factory.mktemp("clip") / "street & square.mp4")
