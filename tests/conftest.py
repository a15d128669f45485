"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# no test reads features that an earlier run kept; those of the cache say so themselves
os.environ["AVEL_CACHE_GB"] = "0"


def shared_folder() -> Path | None:
    """The folder of real media, labels and golden numbers, where it is there."""
    folder = Path(os.environ.get("AVEL_SHARED") or ROOT.parent / "shared")
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real media, AVE's labels and golden numbers; the test is skipped where they are absent."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("no shared material: set AVEL_SHARED to its folder")
    return folder
