"""The glossary holds: no name, option or column bears a word that it rules out."""

from __future__ import annotations

import ast

from tests.conftest import load_script

glossary = load_script("glossary")


def test_no_name_or_column_bears_a_word_ruled_out() -> None:
    found = [*glossary.names(), *glossary.headers()]
    assert found == [], "see scripts/glossary.py --where WORD"


def test_every_option_is_a_parameter_that_was_looked_at() -> None:
    """Options are the parameters of the commands' functions, so names cover them."""
    tree = ast.parse("def verb(min_length, *, sense=1):\n    found = 1\n    self.told = 2\n")
    names = {name for name, _ in glossary._defined(tree)}
    assert {"verb", "min_length", "sense", "found", "told"} == names


def test_words_are_told_apart_within_names() -> None:
    assert glossary._words("SplitAnswers") == ["split", "answers"]
    assert glossary._words("HELD_ROWS") == ["held", "rows"]
    assert glossary._words("max-gap") == ["max", "gap"]
