"""`avel match`: search files by a sound or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avel.cli._options import (
    Device,
    Precision,
    check_precision,
    note_ignored_files,
    print_json,
    print_table,
    progress_bar,
)
from avel.cli._outputs import check_writable, writing
from avel.cli._terminal import fail, note
from avel.device import check_device, sleep_while_waiting
from avel.errors import counted, printable

if TYPE_CHECKING:
    from rich.table import Table

    from avel.search.matcher import Matcher
    from avel.search.results import SearchResult


def match(
    query: Annotated[
        str,
        typer.Option(
            "--query",
            metavar="FILE[@START-END]",
            help="The query: a file, or its excerpt from START to END in seconds.",
        ),
    ],
    candidates: Annotated[
        list[Path],
        typer.Option("--in", metavar="PATH...", help="Files or folders to search."),
    ],
    modality: Annotated[
        str | None,
        typer.Option(
            help="audio: compare the query's sound with pictures; visual: its picture with sounds. "
            "By default audio where the query has a sound."
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="MODALITY",
            help="audio: find sounds like the query's; visual: find pictures like the query's.",
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT...",
            help="NAME.csv, NAME.json, NAME.html (a page), or several.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="How many matches at most.")] = 10,
    overlaps: Annotated[
        bool, typer.Option("--overlaps", help="Keep matches that overlap a nearer one.")
    ] = False,
    one_per_file: Annotated[
        bool, typer.Option("--one-per-file", help="Keep only the best match of each file.")
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option(
            help="NAME.safetensors: an index of the searched files' features, made or updated."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="`default`, named events without training; a run's folder of task cml; or "
            "`toybox_match`, a toy."
        ),
    ] = "default",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object in place of a table.")
    ] = False,
    precision: Precision = "float32",
    device: Device = "auto",
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Neither read files' features from the cache nor store them there."
        ),
    ] = False,
) -> None:
    """Search recordings across modalities.

    Finds what looks like a sound, or sounds like a picture.
    """
    sleep_while_waiting()
    from avel.report.cards import cautions
    from avel.search.matcher import Matcher
    from avel.search.results import check_ending

    outputs = output or []
    for path in outputs:
        check_ending(path)
    check_writable(outputs if index is None else [*outputs, index])
    check_precision(precision)
    check_device(device)
    note_ignored_files(candidates)
    matcher = Matcher(
        model,
        cache=not no_cache,
        precision=precision,  # type: ignore[arg-type]
        device=device,
    )
    result = _run(
        matcher, query, candidates, modality=modality, within=within, top=top, overlaps=overlaps,
        one_per_file=one_per_file, index=index,
    )  # fmt: skip
    for caution in cautions(result.model)[:1]:
        note(caution)
    for path in outputs:
        with writing(path):
            result.save(path)
    _show(result, outputs, as_json=as_json)
    hint = _direction_hint(result)
    if hint:
        note(hint)
    for name, error in result.failed:
        message = str(error) if name in str(error) else f"{name}: {error}"
        fail(message)
    if result.failed:
        raise typer.Exit(1)


def _run(matcher: Matcher, query: str, candidates: list[Path], **options: object) -> SearchResult:
    with progress_bar("searching") as advance:
        return matcher(query, candidates, progress=advance, **options)  # type: ignore[arg-type]


def _direction_hint(result: SearchResult) -> str:
    """What to try where the files lack what the query is compared with; empty with a match."""
    from avel.search.results import WORDS

    if result.matches or result.modality == result.candidate_modality:
        return ""
    query, candidates = WORDS[result.modality], WORDS[result.candidate_modality]
    return (
        f"the query's {query} was compared with every {candidates}, and none fits\n"
        f"  hint: --within {result.modality} compares it with every {query}"
    )


def _show(result: SearchResult, written: list[Path], *, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
    else:
        print_table(_table(result), notes=result.notes, written=written)


def _table(result: SearchResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    from avel.clock import format_time
    from avel.search.results import WORDS

    span = f"{format_time(result.start, decimals=2)} - {format_time(result.end, decimals=2)}"
    query = f"the {WORDS[result.modality]} of {printable(Path(result.query).name)}, {span}"
    files = counted(result.files, "file")
    title = f"{query}, in {files} of {result.segments} segments"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("", "start", "end", "distance"):
        table.add_column(heading, justify="right", no_wrap=True)
    shares = any(m.shared for m in result.matches)
    for heading in ("in both",) * shares + ("file",):
        table.add_column(heading, overflow="fold")
    for i, m in enumerate(result.matches, 1):
        times = (format_time(m.start, decimals=2), format_time(m.end, decimals=2))
        both = (Text(printable(", ".join(m.shared))),) * shares
        file = Text(printable(m.file), overflow="fold")
        table.add_row(str(i), *times, f"{m.distance:.3f}", *both, file)
    if not result.matches:
        table.add_row("", "", "", "", "no match")
    return table
