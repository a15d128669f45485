"""The pages' commands: found, checked against the command line, and run with small inputs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from avel.cli._outputs import split_outputs
from avel.cli.main import build_app
from tests.conftest import ROOT

#: Every page that a reader may copy a command from.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    )
)  # fmt: skip
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*?) -->\n+)?^```(?P<kind>sh|python)\n(?P<code>.*?)^```$"
    r"(?:\n\n<!-- printed -->\n```text\n(?P<printed>.*?)^```$)?",
    re.S | re.M,
)
_SPAN = re.compile(r"`(avel [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A page's code.

    ``reason`` says why no test runs it, where none does, and ``printed`` what the page says that
    it prints.
    """

    kind: str
    code: str
    reason: str | None
    printed: str | None

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block, without remarks."""
        joined = self.code.replace("\\\n", " ")
        lines = (re.sub(r"(?<!\S)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def read(page: str) -> str:
    """A page by its path in the repository."""
    return (ROOT / page).read_text("utf-8")


def blocks(text: str) -> list[Block]:
    """The code of a page that can be run: shell and Python, in order."""
    return [Block(m["kind"], m["code"], m["reason"], m["printed"]) for m in _BLOCK.finditer(text)]


def commands(page: str) -> list[str]:
    """All shell lines of a page, run or not."""
    return [line for b in blocks(read(page)) if b.kind == "sh" for line in b.lines]


def spans(page: str) -> list[str]:
    """The commands that stand within sentences."""
    return sorted({" ".join(span.split()) for span in _SPAN.findall(read(page))})


@cache
def verbs() -> dict[str, Any]:
    """The command line's verbs."""
    return dict(typer.main.get_command(build_app()).commands)  # type: ignore[attr-defined]


def check_command(line: str, *, whole: bool = True) -> None:
    """Refuse a verb, an option or a number of arguments that `avel` doesn't know.

    Within sentences (not ``whole``) arguments may be missing.
    """
    verb, *rest = split_outputs(shlex.split(line)[1:])
    if verb == "--help":
        return
    assert verb in verbs(), f"{line}: no verb {verb}, only {', '.join(verbs())}"
    try:
        verbs()[verb].make_context(verb, rest)  # parses, and does nothing
    except Exception as wrong:  # typer has a click of its own, whose errors it doesn't publish
        if whole or type(wrong).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise


def check_program(line: str) -> None:
    """Refuse a line whose program, target, script or option isn't there."""
    program, *rest = shlex.split(line)
    if program == "avel":
        check_command(line)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        for word in rest:  # a target, or a variable's value
            found = re.search(rf"^{re.escape(word.partition('=')[0])}( [?:]?=|:)", makefile, re.M)
            assert found, f"{line}: no such target"
    elif program == "python":
        script = ROOT / rest[0]
        assert script.is_file(), f"{line}: no such script"
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert f'"{option}"' in script.read_text("utf-8"), f"{line}: no {option}"
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/")), line
    else:
        known = ("pip", "ray", "export", "curl", "id=$(curl")
        assert program in known, f"{line}: what is {program}?"


#: What makes a command of a page quick: pattern, replacement.
_SMALLER = ((r"--clips \d+", "--clips 24"), (r"\bepochs=\d+", "epochs=1"),
            (r"--seeds \d+", "--seeds 1"))  # fmt: skip
_TINY = "--size 48x36 --fps 2 --seconds 6 --jobs 1"


def smaller(line: str) -> str:
    """The command with fewer and smaller clips, one epoch, one seed."""
    for pattern, replacement in _SMALLER:
        line = re.sub(pattern, replacement, line)
    if line.startswith("avel synth "):
        return f"{line} {_TINY}"
    if re.match(r"avel (train|sweep|reproduce) .*data=", line):
        line += " epochs=1" if "epochs=" not in line else ""
        line += " mmel.epochs=1" if "task=cml" in line and "mmel." not in line else ""
    return line


def links(text: str) -> Iterator[tuple[str, str]]:
    """The places that a page's links lead to within the repository: path (or empty), anchor."""
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", outside):
        if not target.startswith(("https://", "http://")):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(path: Path) -> set[str]:
    """The headings of a page as code hosts and the site make anchors of them."""
    found = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", h.lower()).strip()) for h in found}
