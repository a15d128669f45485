"""A model of a user's own: CONTRIBUTING's, from outside the package, and files that fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avel.cli.main import main
from avel.errors import CheckpointError, UsageError
from avel.inference.load import load_trained
from avel.models.base import Model, Recipe, models
from avel.registry import Registry
from avel.training.loop import fit
from tests.training_data import make_dataset

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.search(
    r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL
)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The model that CONTRIBUTING shows, as a file."""
    assert EXAMPLE
    file = tmp_path / "by_second.py"
    file.write_text(EXAMPLE[1], "utf-8")
    return file


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The registry without what a test adds."""
    models.names()
    entries, own = dict(models._entries), dict(models._user_files)
    yield
    models._entries, models._user_files = entries, own


def run(*arguments: str | Path, own: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    held = {**os.environ, "AVEL_MODELS": str(own), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=held, cwd=ROOT
    )


def test_the_example_is_short() -> None:
    assert EXAMPLE and len(EXAMPLE[1].splitlines()) <= 42


def test_it_stands_in_the_list(example: Path) -> None:
    listed = run("avel", "ls", "models", own=example)
    assert listed.returncode == 0
    assert re.search(r"by_second +sel, wsel +A perceptron of every second", listed.stdout)
    assert "cspa_csea" in listed.stdout


def test_the_contract_holds_for_it(example: Path) -> None:
    tested = run(
        "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_models.py", "-k", "by_second",
        own=example,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout[-3000:]
    count = re.search(r"(\d+) passed", tested.stdout)
    assert count and int(count[1]) >= 15, tested.stdout[-300:]


@pytest.mark.slow
def test_the_contract_notices_what_breaks_it(example: Path) -> None:
    example.write_text(example.read_text().replace("average(share_entropy(logits, labels), "
                       "batch.mask)", "share_entropy(logits, labels).mean()"))  # fmt: skip
    tested = run(
        "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_models.py",
        "-k", "by_second-sel", own=example,
    )  # fmt: skip
    assert tested.returncode == 1
    assert "test_padding_changes_no_loss[by_second-sel]" in tested.stdout


def test_it_trains_and_its_checkpoint_comes_back(example: Path, tmp_path: Path) -> None:
    assert models.add_file(example) == ["by_second"]
    recipe = Recipe(epochs=15, batch=8, lr=1e-2, precision="float32", options={"hidden": 8})
    for task in ("sel", "wsel"):
        run_ = fit("by_second", make_dataset(), task=task, recipe=recipe, out=tmp_path / task)  # type: ignore[arg-type]
        losses = [record["loss"] for record in run_.history]
        assert losses[-1] < 0.5 * losses[0]
        again = load_trained(tmp_path / task)
        assert type(again.network) is models.get("by_second")


def test_a_checkpoint_says_how_its_model_is_found(example: Path, tmp_path: Path) -> None:
    models.add_file(example)
    recipe = Recipe(epochs=1, batch=8, precision="float32")
    fit("by_second", make_dataset(), recipe=recipe, out=tmp_path / "run")
    del models._entries["by_second"]
    with pytest.raises(CheckpointError, match=r"unknown model 'by_second'(?s:.*)AVEL_MODELS"):
        load_trained(tmp_path / "run")


def test_the_command_trains_a_file(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("avel.cli._pairs.open_data", lambda given, **_: make_dataset())
    code = main(["train", str(example), "epochs=2", "hidden=8", "-o", str(tmp_path / "run")])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "by_second" in told.out
    assert load_trained(tmp_path / "run").card["options"]["hidden"] == 8
    assert main(["train", str(example), "hiden=8", "data=x"]) == 2
    assert "did you mean hidden" in capsys.readouterr().err


def test_without_an_output_the_run_bears_the_models_name(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avel.cli._pairs.open_data", lambda given, **_: make_dataset())
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(example), "epochs=1"]) == 0
    assert (tmp_path / "runs" / "by_second_sel" / "model.safetensors").is_file()


WRONG = {
    "": "it registers no class by @models.register",
    "this is no Python": "line 1: SyntaxError",
    "import avel\n\n1 / 0\n": "line 3: ZeroDivisionError",
    "import nothing_of_the_kind": "ModuleNotFoundError",
    "from avel.models.base import Model, models\n"
    "@models.register('half')\nclass Half(Model): pass\n": "no card.*Half lacks forward, loss",
    "from avel.models.base import models\n"
    "@models.register('jca')\nclass Jca: pass\n": "the name 'jca' is taken",
    "from avel.models.base import models\n"
    "@models.register('jca')\nclass Other: pass\n": "'jca' is registered twice",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda t: t[:20])
def test_files_that_are_no_model(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = dict(models)
    file = tmp_path / "wrong.py"
    file.write_text(text)
    assert main(["train", str(file), "data=x"]) == 2
    told = capsys.readouterr().err
    assert re.search(WRONG[text], told), told
    assert "Traceback" not in told and str(file) in told
    assert dict(models) == known


def test_files_that_arent_there_or_hold_several(example: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        models.named(str(tmp_path / "gone.py"))
    text = example.read_text()
    example.write_text(text + text.replace("by_second", "other").replace("BySecond", "Other"))
    with pytest.raises(UsageError, match=r"registers by_second, other(?s:.*)AVEL_MODELS="):
        models.named(str(example))
    assert {"by_second", "other"} <= set(models.names())
    assert models.named("jca") == "jca"


def test_a_file_is_run_once(tmp_path: Path) -> None:
    assert EXAMPLE
    file = tmp_path / "counts.py"
    file.write_text(
        EXAMPLE[1]
        + "\n(__import__('pathlib').Path(__file__).parent / 'ran').open('a').write('x')\n"
    )
    for _ in range(2):
        models.add_file(file)
    assert (tmp_path / "ran").read_text() == "x"


def test_every_file_of_the_variable_is_known(example: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.py"
    second.write_text(
        example.read_text().replace("by_second", "second").replace("BySecond", "Second")
    )
    listed = run("avel", "ls", "models", "*second", own=Path(f"{example}{os.pathsep}{second}"))
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["by_second", "second"]
    gone = run("avel", "ls", "models", own=tmp_path / "gone.py")
    assert gone.returncode == 2
    assert "no file" in gone.stderr and "Traceback" not in gone.stderr


def test_no_checkpoint_can_name_a_file(example: Path) -> None:
    """What a card says is looked up as a name; a path is none, whatever lies there."""
    for name in (str(example), "./by_second.py", "by_second.py"):
        with pytest.raises(UsageError, match="unknown model"):
            models.get(name)
    assert "by_second" not in models.names()


def test_models_are_modules_of_weights(example: Path) -> None:
    models.add_file(example)
    network = models.get("by_second")(audio_dim=2, visual_dim=3, classes=2)  # type: ignore[call-arg]
    assert isinstance(network, Model)
    assert sum(p.numel() for p in network.parameters()) == 5 * 64 + 64 + 64 * 3 + 3
    assert not any(isinstance(b, torch.Tensor) for b in network.buffers())


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> Registry[Model]:
    """A registry of the models, where a package with an entry point is installed."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[avel.models]\nby_second = {module}\n")
    monkeypatch.syspath_prepend(folder)
    registry: Registry[Model] = Registry("model", "avel.models")
    monkeypatch.setattr("avel.models.base.models", registry)
    return registry


def test_installed_packages_add_models_by_entry_points(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "by_second_plugin.py").write_text(example.read_text())
    registry = installed(folder, monkeypatch, "by_second_plugin")
    assert "by_second" in registry.names()
    assert registry.get("by_second").__module__ == "by_second_plugin"


def test_an_entry_point_that_fails_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = installed(tmp_path, monkeypatch, "no_such_module")
    with pytest.raises(UsageError, match="by_second = no_such_module fails") as error:
        registry.names()
    assert "uninstall mine" in error.value.hint
