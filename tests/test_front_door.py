"""What `import avel` offers, with the same names and defaults as the command line."""

from __future__ import annotations

import builtins
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avel
from avel.cli.main import build_app, main
from avel.device import check_device, torch_device
from avel.errors import UsageError
from avel.training.recipes import resolve
from tests.training_data import make_dataset

#: Verbs and the functions that do the same; ``no_cache`` there is ``cache`` here.
PAIRS = [
    ("localize", avel.localize),
    ("localize", avel.Localizer),
    ("match", avel.match),
    ("match", avel.Matcher),
    ("train", avel.fit),
    ("extract", avel.Extractor),
]
#: Defaults that differ for a reason: a corpus is worth measuring its precision, training's
#: features have a backbone of their own, and a verb's output has a place.
APART = {("extract", "precision")}


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


@pytest.mark.parametrize(("verb", "function"), PAIRS)
def test_defaults_are_the_same_in_python_and_on_the_command_line(
    verb: str, function: Callable[..., Any]
) -> None:
    command = _defaults(getattr(importlib.import_module(f"avel.cli.{verb}"), verb))
    if "no_cache" in command:
        command["cache"] = not command.pop("no_cache")
    python = _defaults(function)
    shared = {n for n in command.keys() & python.keys() if (verb, n) not in APART}
    assert "device" in shared
    assert {n: command[n] for n in shared} == {n: python[n] for n in shared}


def test_every_public_name_is_there_and_no_builtin_is_hidden() -> None:
    assert {"Localizer", "Extractor", "Matcher", "Dataset", "Recipe", "list_models"} <= {
        *avel.__all__
    }
    for name in avel.__all__:
        assert getattr(avel, name) is not None
    assert not {*avel.__all__} & {*dir(builtins)}
    assert avel.open is not builtins.open and "open" in dir(avel)


def test_named_models_load_by_their_names() -> None:
    names = avel.list_models()
    assert names[0] == "default" and {"toybox", "toybox_match"} <= {*names}
    assert avel.load_model("toybox").card["model"] == "cspa_csea"


def test_a_repr_is_one_line() -> None:
    grid = avel.Grid(3.0)
    features = avel.Features(
        np.zeros((3, 4), np.float32), np.zeros((3, 2, 2, 5), np.float32), grid,
        np.ones(3, bool), np.ones(3, bool), source="a.mp4",
    )  # fmt: skip
    events = tuple(avel.Event(float(i), i + 1.0, label, 0.5) for i, label in enumerate("abc"))
    timeline = avel.Timeline("in/a.mp4", events, 3.0, tuple("abc"))
    assert repr(features) == "<Features of 'a.mp4': 3 segments of 1 s, audio 4, visual 2x2x5>"
    assert repr(timeline) == "<Timeline of 'a.mp4', 3 s: 3 events (a, b, c)>"
    data = make_dataset()
    run = avel.fit("linear", data, recipe=resolve("linear", pairs=["epochs=1", "batch=8"]))
    for shown in (data, run, run.trained, avel.load_model("toybox")):
        assert len(repr(shown)) < 200 and "\n" not in repr(shown)


def test_devices_are_checked_by_name_and_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVEL_DEVICE", raising=False)
    assert check_device("auto") == "cpu" and str(torch_device("auto")) == "cpu"
    monkeypatch.setenv("AVEL_DEVICE", "cuda:63")
    assert check_device("auto") == "cuda:63" and check_device("cpu") == "cpu"
    for name in ("auto", "cuda:63"):
        with pytest.raises(UsageError, match="isn't available"):
            torch_device(name)
    for name in ("gpu", "cuda:", "cpu:0", ""):
        with pytest.raises(UsageError, match="no device"):
            check_device(name)


@pytest.mark.parametrize(
    "verb",
    ["localize", "match", "extract", "train", "serve", "evaluate", "tune", "reproduce", "sweep"],
)
def test_every_verb_that_computes_takes_a_device(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "-h"]) == 0
    assert "--device" in capsys.readouterr().out


def test_the_version_and_both_forms_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == avel.__version__
    assert main(["-h"]) == 0
    short = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == short and "--install-completion" in short


def test_no_verb_is_described_by_half_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["-h"]) == 0
    verbs = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert len(verbs) == len(build_app().registered_commands) + 1  # `plot` has verbs of its own
    assert main(["plot", "-h"]) == 0
    verbs += capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert all(line.endswith(".") and not line.endswith("...") for line in verbs)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("avel ls mo", ["models"]),
        ("avel localize --device c", ["cpu", "cuda"]),
        ("avel localize --modality a", ["audio", "all"]),
    ],
)
def test_a_shell_completes_values_too(
    words: str, values: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("_AVEL_COMPLETE", "complete_bash"),
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(len(words.split()) - 1)),
    ):
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['avel']; from avel.cli.main import main; main()",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == values, done.stderr


@pytest.mark.parametrize("level", [["-q", "ls"], ["ls", "-q"]])
def test_levels_may_stand_anywhere(level: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*level, "tasks"]) == 0
    assert "sel" in capsys.readouterr().out, "what was asked for is printed all the same"


def test_quiet_prints_no_table_of_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = Path(avel.__file__).parent / "data" / "clips" / "big_buck_bunny.mp4"
    output = str(tmp_path / "x.json")
    call = ["localize", str(clip), "--model", "toybox", "--no-cache", "-o", output]
    assert main([*call, "-q"]) == 0
    quiet = capsys.readouterr()
    assert quiet.out == quiet.err == "" and Path(output).is_file()
    assert main([*call, "-v"]) == 0
    loud = capsys.readouterr()
    assert output in loud.out.replace("\n", "") and "times real time" in loud.err


def test_every_verb_has_help_in_a_sentence() -> None:
    commands = build_app().registered_commands
    assert all(
        c.callback and (c.callback.__doc__ or "").split("\n")[0].endswith(".") for c in commands
    )
