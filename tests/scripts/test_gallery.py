"""The gallery's code runs as it stands, on small stand-ins for the runs that it draws from."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from avel.cli._pairs import DataArguments, save_data_arguments
from avel.cli.main import main
from avel.data import load_dataset
from avel.data.ave.files import ORDER_KEY, ORDERS
from avel.data.toybox.dataset import ToyboxPlan, synthesize
from avel.evaluation.results import table
from avel.training.loop import fit
from avel.training.recipes import resolve
from tests.conftest import ROOT, load_script
from tests.docs_pages import check_command
from tests.figures.test_figures import rows

torch.set_num_threads(1)
PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")
#: Toybox's first clips at a size that renders in no time; the page names two of the test split.
SMALL = ToyboxPlan(seed=1, fps=1, width=48, height=36)
CLIPS = 32
AVE = ("Bark", "Bus", "Cat")
#: The runs that the page draws from: model, data, task and changes.
RUNS = {
    "toy": ("cspa_csea", "toy", "sel", ["common=4", "hidden=8", "state=4"]),
    "toy-av": ("av", "toy", "sel", ["hidden=8", "state=4"]),
    "toy-cml": ("cspa_csea", "toy", "cml", ["common=4", "hidden=8", "state=4"]),
    "sim/seed-0": ("cspa_csea", "ave", "sel", ["common=4", "hidden=8", "state=4"]),
    "sim/seed-1": ("cspa_csea", "ave", "sel", ["common=4", "hidden=8", "state=4"]),
    "sim-av/seed-0": ("av", "ave", "sel", ["hidden=8", "state=4"]),
    "sim-av/seed-1": ("av", "ave", "sel", ["hidden=8", "state=4"]),
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("gallery")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the setup's commands would make, smaller."""
    folder = tmp_path_factory.mktemp("gallery")
    toy, sim = folder / "data" / "toy", folder / "data" / "sim"
    synthesize(toy, clips=CLIPS, plan=SMALL, jobs=1)
    assert main(["extract", str(toy)]) == 0
    write_labels(folder / "data" / "AVE")
    assert main(["synth-features", str(sim), "--labels", str(folder / "data" / "AVE")]) == 0
    data = {
        "toy": load_dataset("folder", root=toy),
        "ave": load_dataset("ave", root=sim),
    }
    for name, (model, of, task, pairs) in RUNS.items():
        recipe = resolve(model, task, pairs=["epochs=1", "precision=float32", *pairs])  # type: ignore[arg-type]
        at = folder / "runs" / name
        fit(model, data[of], task=task, recipe=recipe, seed=int(name[-1] == "1"), out=at)  # type: ignore[arg-type]
        given = (
            DataArguments(data=str(toy))
            if of == "toy"
            else DataArguments(data="ave", root=str(sim))
        )
        save_data_arguments(given, at)
    sweep = folder / "sweeps" / "lambda_s"
    sweep.mkdir(parents=True)
    (sweep / "lambda_s.csv").write_text(table(rows()), "utf-8")
    return folder


def write_labels(root: Path) -> None:
    """AVE's text and order files for 24 clips of three classes."""
    root.mkdir(parents=True)
    lines = [f"{AVE[i % 3]}&{i}&good&{i % 4}&{min(10, i % 4 + 3 + i % 5)}" for i in range(24)]
    (root / "Annotations.txt").write_text("\n".join(lines) + "\n", "utf-8")
    for i, remote in enumerate(ORDERS.values()):
        with h5py.File(root / remote.name, "w") as f:
            f[ORDER_KEY] = np.arange(24)[i % 3 :: 3]


def test_the_page_runs_and_draws_what_it_shows(
    place: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with script.inside(place):
        script.run(PAGE)
    shown = [place / name for name in script.pictures(PAGE)]
    written = [place / line for line in capsys.readouterr().out.split()]
    assert len(shown) == 9 and len(written) == PAGE.count("avel plot") - 1  # one is prose
    for path in [*shown, *written]:
        assert path.stat().st_size > 2000
        if path.suffix == ".png":
            assert np.asarray(Image.open(path).convert("L")).std() > 10, path


def test_every_picture_is_committed_small_and_from_the_page(script: ModuleType) -> None:
    names = script.pictures(PAGE)
    assert sorted(names) == sorted(set(re.findall(r'"(images/[^"]+)"', PAGE)))
    held = {f"images/{p.name}" for p in (ROOT / "docs" / "images").glob("gallery-*")}
    assert held == set(names)
    assert all((ROOT / "docs" / n).stat().st_size < 350_000 for n in names)


def test_every_block_is_run_or_set_up(script: ModuleType) -> None:
    kinds = [kind for kind, _ in script.blocks(PAGE)]
    assert len(kinds) == PAGE.count("\n```") // 2
    assert kinds[0] == "setup" and kinds.count("setup") == 1


def test_setup_can_be_called_like_that_and_is_not_run_twice(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = next(code for kind, code in script.blocks(PAGE) if kind == "setup")
    for line in script.lines(code):
        check_command(line)
    called: list[list[str]] = []
    monkeypatch.setattr(script, "main", lambda words: called.append(words) or 0)
    monkeypatch.chdir(tmp_path)
    script.prepare(PAGE)
    script.prepare(PAGE)
    assert len(called) == len(script.lines(code))
    monkeypatch.setattr(script, "main", lambda words: 1)
    with pytest.raises(SystemExit, match="failed"):
        script.run(PAGE.partition("## On axes")[0].replace("```python", "```text"))
