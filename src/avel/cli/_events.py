"""The vocabulary as a table: every event's names and the classes it means."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from avel.events import NamedEvent, Vocabulary, load_vocabulary, select_events

if TYPE_CHECKING:
    from rich.table import Table


def print_events(phrase: str = "*", vocabulary: Path | None = None) -> None:
    """Print a table of the events that a set, a phrase or a pattern names.

    Args:
        phrase: Names, sets or a pattern, as for `avel localize --events`.
        vocabulary: A file of one's own vocabulary.

    Raises:
        UsageError: for a phrase without events, or a vocabulary with mistakes.
    """
    from avel.cli._options import print_table

    words = load_vocabulary(vocabulary)
    events, notes = _named(phrase, words)
    if phrase == "*":
        notes = [", ".join(f"{s} ({len(n)})" for s, n in words.sets.items())]
        notes[0] = f"sets: {notes[0]}"
    print_table(_table(events, words), notes=notes, written=[])


def set_lines(vocabulary: Path | None = None) -> dict[str, str]:
    """A line for each set: how many events it has, and the first of them."""
    sets = load_vocabulary(vocabulary).sets
    return {s: f"{len(n):4} events: {', '.join(n[:4])}, ..." for s, n in sets.items()}


def shorten(classes: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """The classes with the groups that are wholly among them as ``@group (size)``."""
    remaining, groups = dict.fromkeys(classes), []
    for group, members in sorted(vocabulary.groups.items(), key=lambda g: -len(g[1])):
        if len(members) > 2 and all(m in remaining for m in members):
            groups.append(f"@{group} ({len(members)})")
            for m in members:
                del remaining[m]
    return [*groups, *remaining]


def _named(phrase: str, vocabulary: Vocabulary) -> tuple[list[NamedEvent], list[str]]:
    if set("*?[") & set(phrase):
        events = [e for n, e in vocabulary.events.items() if fnmatchcase(n, phrase)]
        return events, [] if events else [f"no event's name matches {phrase!r}"]
    selection = select_events(phrase, vocabulary)
    return [s.event for s in selection.events], list(selection.notes)


def _table(events: Sequence[NamedEvent], vocabulary: Vocabulary) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column, ratio in (("event", 2), ("also called", 3), ("audible: AudioSet", 3),
                          ("visible: ImageNet", 3), ("sets", 2)):  # fmt: skip
        table.add_column(column, ratio=ratio, overflow="fold")
    for event in events:
        kind = f" (a kind of {event.kind_of})" if event.kind_of else ""
        visible = "; ".join(shorten(event.visual, vocabulary)) or "- (audible only)"
        cells = (
            event.name + kind,
            "; ".join(event.aliases),
            "; ".join(event.audio) or "- (visible only)",
            visible + (" (proxy)" if event.proxy else ""),
            ", ".join(event.sets),
        )
        table.add_row(*map(escape, cells))
    return table
