"""Options that several verbs have, and the tables, notes and progress that they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._terminal import fail, is_quiet, note, progress_console
from avel.errors import UsageError, counted, printable
from avel.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from avel.types import Choice, Json

PRECISIONS = ("auto", "float32", "bf16")
Precision = Annotated[
    str,
    typer.Option(
        help="float32; bf16 (faster, error about 1 %); or auto: the faster one on this machine "
        "(`avel extract` also compiles where it pays)."
    ),
]


def completing(*values: str) -> Callable[[str], list[str]]:
    """What a shell completes an argument to: those of the values that begin like it."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


Device = Annotated[
    str,
    typer.Option(
        help="auto (the processor, or AVEL_DEVICE), cpu, cuda, cuda:N or mps.",
        autocompletion=completing("auto", "cpu", "cuda", "mps"),
    ),
]
Modality = Annotated[
    str,
    typer.Option(
        help="Which events: both (seen and heard), audio (only heard), visual (only seen), or all, "
        "each with its modality.",
        autocompletion=completing("both", "audio", "visual", "all"),
    ),
]
Clips = Annotated[Path | None, typer.Option(help="A folder for a clip of every event.")]
Thumbnails = Annotated[Path | None, typer.Option(help="A folder for a picture of every event.")]

Split = Annotated[str, typer.Option(help="train, val, test, or another of the data.")]
OtherData = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE...]", help="For other data: data=DIR, or data=ave root=DIR."
    ),
]
AudioTrack = Annotated[
    int | None, typer.Option(help="The number of the audio track to read, from 0.")
]
VideoTrack = Annotated[
    int | None, typer.Option(help="The number of the video track to read, from 0.")
]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="How many seeds to train.")]
KeepState = Annotated[
    bool, typer.Option("--keep-state", help="Keep the state that resumes finished trainings.")
]
ShowScores = Annotated[
    bool,
    typer.Option("--scores", help="Show the scores in subtitles (.srt, .vtt): Bark (score 0.88)."),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Let predictions replace labels that a person made."),
]


def check_modality(modality: str) -> Choice:
    """Check the value of ``--modality`` before any work.

    Raises:
        UsageError: for another value.
    """
    from avel.types import CHOICES

    for choice in CHOICES:
        if modality == choice:
            return choice
    raise UsageError(f"--modality can't be {modality!r}", expected=f"one of {', '.join(CHOICES)}")


def check_precision(precision: str) -> None:
    """Check the value of ``--precision`` before anything heavy is imported.

    Raises:
        UsageError: for another value.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"--precision can't be {precision!r}", expected=f"one of {', '.join(PRECISIONS)}"
        )


def need_packages(verb: str, names: Sequence[str], extra: str) -> None:
    """Refuse a call whose packages aren't installed.

    Args:
        verb: Of the call.
        names: The packages to import.
        extra: Avel's extra that brings them.

    Raises:
        UsageError: that names what is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"avel {verb} needs {', '.join(missing)}, not installed",
            hint=f"pip install 'avel[{extra}]'",
        )


def note_ignored_files(inputs: Sequence[Path]) -> None:
    """Print which files in the folders of a call are no media by their endings, in one note."""
    from avel.features.listing import passed_over

    names = passed_over(inputs)
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        count = counted(len(names), "file")
        note(f"ignored {count}, no media by the ending: {', '.join(names[:5])}{more}")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing elsewhere: a function of (done, total)."""
    from rich.progress import Progress as Bar

    console, off = progress_console()
    with Bar(console=console, transient=True, disable=off) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def exits_when_stopped(message: str = "") -> Iterator[None]:
    """A context in which Ctrl-C prints how to resume, and ends with exit code 130.

    Args:
        message: What is printed; the training's own words if empty.
    """
    from avel.training.loop import Stopped

    try:
        yield
    except Stopped as e:
        fail(message or str(e))
        raise typer.Exit(130) from e


def print_json(value: Json) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(value, allow_nan=False))


#: Columns of a table that goes into a pipe or a file.
_UNBROKEN = 10_000


def print_table(
    table: Table, *, notes: Sequence[str], written: Sequence[Path], lines: Sequence[str] = ()
) -> None:
    """Print a table with its notes, the files that were written, and further lines.

    With ``--quiet`` nothing is printed where files were written.

    Args:
        table: The table.
        notes: What a reader of the table must know, a sentence each.
        written: The files that were written.
        lines: What else was done, a line each.
    """
    if is_quiet() and (written or lines):
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    if not console.is_terminal:  # in a pipe or a file no path is broken over lines
        console.width = max(console.width, _UNBROKEN)
    console.print(table)
    for text in notes:
        console.print(f"note: {escape(printable(text))}")
    for path in written:
        console.print(f"wrote {escape(printable(str(path)))}")
    for line in lines:
        console.print(escape(line))
