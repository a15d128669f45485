"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Of headless Chromium, which asks nobody on the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# no test reads features that an earlier run kept; those of the cache say so themselves
os.environ["AVEL_CACHE_GB"] = "0"
# the small backbones, wherever a test names no other
os.environ["AVEL_AUDIO"], os.environ["AVEL_VISUAL"] = "mini_audio", "mini_visual"
# nor a person's own settings
os.environ["AVEL_CONFIG"] = os.devnull


@pytest.fixture(scope="session", autouse=True)
def _chosen_precision() -> Iterator[None]:
    """What ``auto`` chooses, where ``AVEL_TEST_BF16`` is ``always`` or ``never``.

    Processors differ in whether bfloat16 is fast; the tests must pass on either kind.
    """
    chosen = os.environ.get("AVEL_TEST_BF16")
    with pytest.MonkeyPatch.context() as patch:
        if chosen:
            from avel.features import network

            fast = {"always": True, "never": False}[chosen]

            @functools.wraps(network.eager_speed)  # a test of the measurement itself unwraps it
            def eager_speed(*_: object) -> dict[str, float]:
                return {"float32": 1e-9, "bf16": 1e-10 if fast else 1e-8}

            patch.setattr(network, "eager_speed", eager_speed)
            patch.setattr("avel.training.loop.has_bf16_units", lambda _: fast)
        yield


def shared_folder() -> Path | None:
    """The folder of real media, labels and golden numbers, where it is there."""
    folder = Path(os.environ.get("AVEL_SHARED") or ROOT.parent / "shared")
    return folder if folder.is_dir() else None


def load_script(name: str, *, folder: str = "scripts") -> ModuleType:
    """A script of the repository as a module; those in benchmarks import each other."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their names
    if folder not in (Path(p).name for p in sys.path):
        sys.path.append(str(ROOT / folder))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real media, AVE's labels and golden numbers; the test is skipped where they are absent."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("no shared material: set AVEL_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def taggers() -> None:
    """The weights of the training-free model; the test is skipped where they can't be had."""
    from avel.errors import WeightsError
    from avel.inference.load import load_trained

    try:
        load_trained("default")
    except WeightsError as e:
        pytest.skip(f"no weights of the taggers: {e.got}")


def chromium() -> str | None:
    """The browser: ``AVEL_CHROMIUM``, or one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    given = os.environ.get("AVEL_CHROMIUM")
    return given or next((p for p in map(shutil.which, names) if p), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a screen; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium found: install it, or set AVEL_CHROMIUM to its path")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=120_000)
        yield started
        started.close()
