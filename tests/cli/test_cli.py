"""The command line as a whole: light, complete, and never a traceback."""

from __future__ import annotations

import io
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import avel
import avel.cli
from avel.cli.main import main

VERBS = [
    m.name.replace("_", "-")
    for m in pkgutil.iter_modules(avel.cli.__path__)
    if m.name != "main" and not m.name.startswith("_")
]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avel", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_verb() -> None:
    shown = run("--help").stdout
    assert VERBS
    assert not [verb for verb in VERBS if verb not in shown]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "av", "matplotlib", "scipy", "rich", "h5py", "lightning_fabric"}
    code = (
        "import sys\nfrom avel.cli.main import main\nmain(['--help'])\n"
        f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_import_avel_imports_nothing_heavy() -> None:
    code = "import sys, avel; print(len({'torch', 'numpy', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


_AT_TORCH = """
import os, sys
from avel.cli.main import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.write(1, os.environ.get("OMP_WAIT_POLICY", "unset").encode())
            os._exit(0)
sys.meta_path.insert(0, Finder())
main(sys.argv[1:])
"""
CLIP = Path(avel.__file__).parent / "data" / "clips" / "big_buck_bunny.mp4"


@pytest.mark.parametrize(("before", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
@pytest.mark.parametrize("verb", ["localize", "match", "extract", "demo"])
def test_threads_sleep_while_they_wait(
    verb: str, before: str | None, then: str, tmp_path: Path
) -> None:
    """OpenMP reads the variable when torch is imported: it has to be there before."""
    arguments = {
        "localize": [CLIP, "-o", tmp_path / "c.json"],
        "match": ["--query", CLIP, "--in", CLIP],
        "extract": [CLIP, "-o", tmp_path / "features"],
        "demo": [tmp_path / "demo"],
    }[verb]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if before is None else {"OMP_WAIT_POLICY": before}
    command = [sys.executable, "-c", _AT_TORCH, verb, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.endswith(then), done.stderr


def test_version() -> None:
    assert run("version").stdout.strip() == avel.__version__


def test_every_public_name_is_there() -> None:
    assert not [name for name in avel.__all__ if not hasattr(avel, name)]


def test_public_functions_are_not_hidden_by_modules() -> None:
    import avel.evaluation.evaluate
    import avel.inference.checkpoint
    import avel.inference.localizer
    import avel.training.loop

    assert callable(avel.localize)
    assert callable(avel.evaluate)
    assert callable(avel.fit)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no-such-verb"], 2, "no-such-verb"),
        (["frobnicate"], 2, "`avel --help` lists the verbs"),
        (["train", "data=data/toy"], 2, "hint: avel train evidence data=data/toy"),
        (["train", "a=b/model.py", "data=."], 2, "there is no file"),
        (["train", "linear", "data=.", "data.foo=3"], 2, "unknown option of the data set folder"),
        (["localize", "no-such-folder"], 1, "there is no such file or folder"),
        (["evaluate", "no-such-run"], 2, "no trained model at 'no-such-run'"),
        (["tune", "no-such-run"], 2, "no trained model at 'no-such-run'"),
        (["localize"], 2, "FILE"),
        (["localize", "no-such-file.mp4"], 1, "no-such-file.mp4"),
        (["ls", "modles"], 2, "models"),
        (["localize", "--no-such-option", "x.mp4"], 2, "--no-such-option"),
    ],
)
def test_wrong_calls_end_with_a_message_and_a_code(
    arguments: list[str], code: int, message: str
) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_the_nearest_verb_is_suggested_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localise", "x.mp4"]) == 2
    message = capsys.readouterr().err
    assert message.lower().count("did you mean") == message.count("localize") == 1


def test_names_that_the_terminal_can_not_show_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["version"]) == 0
    sys.stdout.write("鐘\udcff.mp4\n")
    sys.stdout.flush()
    assert written.getvalue().splitlines()[-1] == rb"\u9418\udcff.mp4"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise")
@pytest.mark.parametrize("arguments", [["ls"], ["version"], ["ls", "models"], ["--help"]])
def test_a_reader_that_has_gone_is_no_error(arguments: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "avel", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
    assert (running.returncode, errors) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_while_libraries_come_in_is_no_traceback() -> None:
    code = (
        "import os, signal, sys, types\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Late(types.ModuleType):\n"
        "    def __getattr__(self, name): os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.modules['typer'] = Late('typer')\n"
        "from avel.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == ""


@pytest.mark.parametrize(
    "call",
    [
        ["convert", "http://example.org/a.vtt", "-o", "b.csv"],
        ["convert", "https://example.org/a.pt", "-o", "run"],
        ["localize", "http://example.org/a.mp4"],
        ["train", "linear", "data=http://example.org/d"],
        ["pack", "s3://example.org/d"],
        ["check", "http://example.org/d"],
        ["evaluate", "http://example.org/run"],
    ],
)
def test_addresses_are_told_from_files_that_are_missing(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(call) in (1, 2)
    errors = capsys.readouterr().err
    address = next(word for word in call if "://" in word).removeprefix("data=")
    assert f"{address} is an address, and avel reads nothing from the network" in errors
    assert "download it first" in errors and not list(tmp_path.iterdir())
