"""Errors that a person can act on: what was wrong, what was expected, a hint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any
from unicodedata import category


class AvelError(Exception):
    """The root of every error avel raises on purpose.

    Args:
        got: What was wrong, as a sentence with a verb and without a full stop.
        expected: What was expected.
        hint: The cure, as an instruction.
    """

    def __init__(self, got: str, *, expected: str = "", hint: str = "") -> None:
        self.got, self.expected, self.hint = got, expected, hint
        super().__init__(got, expected, hint)

    def __reduce__(self) -> Any:  # so that it crosses to another process
        return partial(type(self), expected=self.expected, hint=self.hint), (self.got,)

    def __str__(self) -> str:
        parts = [self.got]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n  ".join(parts)


class UsageError(AvelError):
    """The call itself is wrong: an unknown name, a bad option (exit code 2 at the command line)."""


class MediaError(AvelError):
    """A media file gave neither sound nor picture, or can't be opened."""


class WeightsError(AvelError):
    """Weights are missing, damaged, or not the requested file."""


class DataError(AvelError):
    """A data set, annotation file or feature file isn't what it says."""


class CheckpointError(AvelError):
    """A checkpoint can't be read, or doesn't fit what it is used on."""


class NoSuchModelError(CheckpointError, UsageError):
    """There is no trained model of that name or path: the call is wrong, not a file."""


def printable(text: str) -> str:
    r"""The text as a terminal may be shown it: control characters of hostile names as ``\x1b``.

    Line ends stay; so do all letters, spaces and signs of any script.
    """
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    return "".join(
        c if c == "\n" or category(c) not in hidden else c.encode("unicode_escape").decode()
        for c in text
    )


def counted(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``3 files``; ``many`` is a plural without a mere s: ``2 matches``."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no registry knows, with the nearest names suggested."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}", expected=f"one of {', '.join(names)}", hint=hint)


def listed(mistakes: Sequence[str], *, count: int | None = None) -> str:
    """The mistakes, each on a line of its own; of many the first 40, and how many more.

    Args:
        mistakes: A clause each.
        count: How many there are, where not all of them are in ``mistakes``.
    """
    lines = list(mistakes[:40])
    more = (len(mistakes) if count is None else count) - len(lines)
    return "".join(f"\n    {line}" for line in [*lines, *([f"and {more} more"] if more else [])])


def all_at_once(
    what: str, mistakes: Sequence[str], *, hint: str = "correct them all", count: int | None = None
) -> UsageError:
    """One error that names every mistake, so that nobody corrects them one run at a time.

    Args:
        what: Where the mistakes are.
        mistakes, count: As for :func:`listed`.
        hint: The cure.
    """
    total = len(mistakes) if count is None else count
    lines = listed(mistakes, count=count)
    return UsageError(f"{what}: {counted(total, 'mistake')}{lines}", hint=hint)
