"""Count the words that the glossary of CONTRIBUTING.md rules out, in names, options and headers.

python scripts/glossary.py [--where WORD]

Names are those that the package defines: variables, arguments, attributes, functions, classes and
modules; options are those of the command line; headers are the columns of results/*.csv.
"""

from __future__ import annotations

import argparse
import ast
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Words that are ruled out, by what they are replaced with.
REPLACED = {
    "modality, audio, visual, audible, visible": "sense senses heard hear hears hearing seeing",
    "event, excerpt, window": "stretch stretches moment moments piece pieces",
    "probability, score, output, prediction": "answer answers answered reply replies said says",
    "low_threshold, min_duration, max_gap": "bridge bridged bridges",
    "baseline": "trivial",
    "evaluate, select, resume": "judge judges judged judging",
    "cache, request, detect, load": "kept held holds asked asks told tells found",
    "expected, hint": "wanted wants",
}
WORDS = {word: new for new, words in REPLACED.items() for word in words.split()}
#: Names that are another thing's own.
PROPER = {
    # the statuses of manifest.csv are stored beside features: made, kept, skipped, bad, failed
    "kept",
}


def _defined(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node.lineno


def _words(name: str) -> list[str]:
    if name != name.upper():
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return [w for w in name.lower().replace("-", "_").split("_") if w]


def names() -> Iterator[tuple[str, str, str]]:
    """Every name that holds a word ruled out: the word, the name, and where it is."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        place = path.relative_to(ROOT)
        for word in set(_words(path.stem)) & WORDS.keys():
            yield word, path.stem, str(place)
        for name, line in _defined(ast.parse(path.read_text("utf-8"))):
            if name not in PROPER:
                for word in set(_words(name)) & WORDS.keys():
                    yield word, name, f"{place}:{line}"


def headers() -> Iterator[tuple[str, str, str]]:
    """The same of the columns of results/*.csv."""
    for path in sorted((ROOT / "results").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as f:
            for name in next(csv.reader(f), []):
                for word in set(_words(name)) & WORDS.keys():
                    yield word, name, str(path.relative_to(ROOT))


def main() -> None:
    """Print the counts, or where one word stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", help="list the names that hold this word")
    given = parser.parse_args()
    rows = [*names(), *headers()]
    if given.where:
        print("\n".join(f"{where}: {name}" for word, name, where in rows if word == given.where))
        return
    for word, count in Counter(word for word, _, _ in rows).most_common():
        print(f"{word:12}{count:5}   use: {WORDS[word]}")
    print(f"{len(rows)} names")


if __name__ == "__main__":
    main()
