"""The reference pages of the command line and the API are those of the code."""

from __future__ import annotations

from types import ModuleType

import pytest

import avel
from tests.cli.test_cli import VERBS
from tests.conftest import ROOT, load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("reference")


@pytest.mark.parametrize("name", ["reference-cli.md", "reference-api.md"])
def test_a_page_is_what_the_code_says(name: str, script: ModuleType) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert page == script.pages()[name], "run scripts/reference.py --write"


def test_every_verb_and_every_public_name_has_a_section(script: ModuleType) -> None:
    commands, api = script.cli_page(), script.api_page()
    assert not [verb for verb in VERBS if f"\n## avel {verb}\n" not in commands]
    assert "\n### avel plot tsne\n" in commands
    names = [*avel.__all__, "open"]
    assert not [n for n in names if f"### avel.{n}\n" not in api and n != "__version__"]


def test_options_are_shown_as_typer_takes_them(script: ModuleType) -> None:
    page = script.cli_page()
    for line in (
        "- `--output`, `-o` `OUT...`: One or more outputs",
        "- `--from` `TEXT`: Read this format",
        "- `--json`: Print one JSON object",
        "- `--calibrate`, `--no-calibrate`: ",
        "- `--jobs`, `-j` `NUMBER`: Worker processes",
        "- `--in` `PATH...`: ",
        "- `--token` `TEXT`: ",
    ):
        assert line in page, line
    assert "(required)" in page and "or the environment variable `AVEL_TOKEN`" in page


def test_docstrings_become_markdown(script: ModuleType) -> None:
    text = (
        "One :func:`avel.fit` of ``x``.\n\nArgs:\n    a, b: Long\n        text: here.\n\n"
        "Returns:\n    C.\n"
    )
    assert script._markdown(text) == (
        "One `fit` of `x`.\n\n**Arguments**\n\n- `a, b`: Long\n  text: here.\n\n**Returns**\n\nC."
    )
