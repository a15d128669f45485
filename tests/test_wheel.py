"""A wheel built from the project: it carries all that it needs, and works away from its source."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "avel"

# what an editable install adds to a process is taken out before avel is looked for
_USE = """
import sys
from pathlib import Path
site, source, clip = map(Path, sys.argv[1:4])
sys.path = [p for p in sys.path if Path(p or ".").resolve() != source]
sys.meta_path = [f for f in sys.meta_path if "editable" not in f"{f} {type(f).__module__}".lower()]
import avel
from avel.backbones.load import load_backbone
from avel.cli.main import main
assert main(["version"]) == 0
for modality in ("audio", "visual"):
    load_backbone(f"mini_{modality}", modality=modality)
print(*avel.load_model("toybox").classes)
found = avel.localize(clip, model="toybox")
for ending in (".json", ".html"):
    found.save(clip.with_suffix(ending))
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "avel" and getattr(module, "__file__", None):
        assert Path(module.__file__).is_relative_to(site), module.__file__
"""


def isolation() -> list[str]:
    """Build with what is here where that suffices, so that no network is needed."""
    try:
        here = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        here = 0
    return ["--no-build-isolation"] if here >= 77 else []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the project and nothing old gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    shutil.copytree(ROOT / "src", copy / "src", ignore=_IGNORED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    command += [*isolation(), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = folder.glob("avel-*.whl")
    return built


_IGNORED = shutil.ignore_patterns("*.egg-info", "__pycache__")


def test_it_carries_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as z:
        held = {n for n in z.namelist() if n.startswith("avel/")}
    here = {
        f"avel/{p.relative_to(PACKAGE).as_posix()}"
        for p in PACKAGE.rglob("*")
        if p.is_file() and p.suffix != ".pyc" and not p.name.startswith(".") and p.suffix != ".tmp"
    }
    assert held == here
    named = ["py.typed", "report/page.html", "report/page.css", "report/page.js"]
    named += [f"pretrained/mini_{modality}.safetensors" for modality in ("audio", "visual")]
    named += ["pretrained/toybox/model.safetensors", "pretrained/toybox/card.json"]
    named += ["pretrained/toybox_match/model.safetensors", "pretrained/toybox_match/card.json"]
    assert {f"avel/{n}" for n in named} <= held


def test_it_has_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as z:
        texts = {n.rsplit("/", 1)[-1]: n for n in z.namelist() if ".dist-info/" in n}
        assert "avel = avel.cli:main" in z.read(texts["entry_points.txt"]).decode()
        assert "LICENSE" in texts
        assert "License-Expression: MIT" in z.read(texts["METADATA"]).decode()
    assert wheel.stat().st_size < 10 * 2**20


def test_it_works_away_from_its_source(wheel: Path, tmp_path: Path) -> None:
    from avel.data.toybox.dataset import ToyboxPlan, render_clip

    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as z:
        z.extractall(site)
    name = render_clip(ToyboxPlan(seed=1_000_000_003, seconds=3, width=96, height=64), 0, tmp_path)
    clip = tmp_path / "videos" / f"{name}.mp4"
    done = subprocess.run(
        [sys.executable, "-c", _USE, str(site), str(ROOT / "src"), str(clip)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bell" in done.stdout.split()
    assert clip.with_suffix(".json").is_file()
    assert "<html" in clip.with_suffix(".html").read_text("utf-8")
