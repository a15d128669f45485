"""Options that several verbs have, and how those verbs work before a person's eyes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._terminal import is_quiet, note, progress_console
from avel.errors import UsageError, printable

if TYPE_CHECKING:
    from rich.table import Table

    from avel.types import Choice, Json

PRECISIONS = ("auto", "float32", "bf16")
Precision = Annotated[
    str,
    typer.Option(help="float32; bf16: faster, error about 1 %; or auto: what is faster here."),
]
Device = Annotated[
    str, typer.Option(help="auto (the processor, or AVEL_DEVICE), cpu, cuda, cuda:N or mps.")
]
Modality = Annotated[
    str,
    typer.Option(
        help="Which events: both (seen and heard), audio (only heard), visual (only seen), or all, "
        "each marked."
    ),
]
Clips = Annotated[Path | None, typer.Option(help="A folder to cut every event into, a file each.")]
Thumbnails = Annotated[Path | None, typer.Option(help="A folder for a picture of every event.")]

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Write predictions over labels that a person made too."),
]


def check_modality(modality: str) -> Choice:
    """Refuse what is no choice of events, before any work is done.

    Raises:
        UsageError: with those there are.
    """
    from avel.types import CHOICES

    for choice in CHOICES:
        if modality == choice:
            return choice
    raise UsageError(f"--modality {modality}", expected=f"one of {', '.join(CHOICES)}")


def check_precision(precision: str) -> None:
    """Refuse what is no precision, before anything heavy is imported.

    Raises:
        UsageError: with those there are.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}", expected=" or ".join(PRECISIONS))


def say_passed_over(inputs: Sequence[Path]) -> None:
    """Name, once, the files in the folders of a call that are no media by their endings."""
    from avel.features.listing import passed_over

    odd = passed_over(inputs)
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        what = f"{len(odd)} file{'s' * (len(odd) != 1)}"
        told = f"passed over {what}, no media by the ending: {', '.join(odd[:5])}{more}"
        note(told)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, nothing elsewhere; called with what is done and what there is."""
    from rich.progress import Progress

    console, off = progress_console()
    with Progress(console=console, transient=True, disable=off) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(found: Json) -> None:
    """One JSON object on one line."""
    typer.echo(json.dumps(found, allow_nan=False))


def print_table(
    table: Table, *, notes: Sequence[str], written: Sequence[Path], done: Sequence[str] = ()
) -> None:
    """A table, what must be known of it, the files it went into, and what else was done.

    Nothing is printed where files were written and the person wants quiet.
    """
    if is_quiet() and (written or done):
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(table)
    for text in notes:
        console.print(f"note: {escape(printable(text))}")
    for path in written:
        console.print(f"wrote {escape(printable(str(path)))}")
    for line in done:
        console.print(escape(line))
