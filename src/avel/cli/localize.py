"""`avel localize`: video files in, timelines out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.cli._options import (
    Clips,
    Device,
    Modality,
    Overwrite,
    Precision,
    Thumbnails,
    check_modality,
    check_precision,
    print_json,
    print_table,
    progress_bar,
    say_passed_over,
)
from avel.cli._outputs import check_places, is_ending, is_folder, unwritable, write_events
from avel.cli._terminal import detail, fail, note
from avel.device import check_device
from avel.errors import AvelError, UsageError, printable

if TYPE_CHECKING:
    from rich.table import Table

    from avel.inference.localizer import Localizer
    from avel.media.file import Media
    from avel.types import Choice, Timeline

_OUTPUT = ("-o", "--output")


def split_outputs(argv: Sequence[str]) -> list[str]:
    """``-o a b c`` of several commands as ``-o a -o b -o c``: one -o, several values.

    Everything after ``-o`` up to the next token that begins with ``-`` is an output. Their files
    therefore stand before ``-o``, or after ``--``. Other commands' arguments, and
    everything after ``--``, return as they came.
    """
    tokens = list(argv)
    if tokens[:1] not in (["localize"], ["convert"], ["match"], ["evaluate"]):
        return tokens
    answer: list[str] = []
    inside = False  # after an -o that has had its first value
    for i, token in enumerate(tokens):
        if token == "--":
            return answer + tokens[i:]
        if token in _OUTPUT:
            inside = False
        elif i and tokens[i - 1] in _OUTPUT:
            inside = True
        elif token.startswith("-"):
            inside = False
        elif inside:
            answer.append("-o")
        answer.append(token)
    return answer


def output_paths(videos: Sequence[Path], outputs: Sequence[str]) -> dict[Path, list[Path]]:
    """Where the outputs of each video go.

    Args:
        videos: The files that are localized.
        outputs: What ``-o`` was given: file names (one video only); bare endings such as
            ``.json``, beside the video under its name (``REC01.mp4.json`` and ``REC01.wav.json``
            where only the ending tells two apart); a folder (one that is there, or a name
            without an ending), which then holds the bare endings, or a .json without any.

    Raises:
        UsageError: for an ending without a writer, for two outputs under one name, and for a file
            name or two folders where that leaves open what is meant.
    """
    from avel.report.writers import writer_for

    if "-" in outputs:
        raise UsageError(
            "-o -", expected="a file, an ending or a folder", hint="--json prints events"
        )
    endings = [o for o in outputs if is_ending(o)]
    folders = [Path(o) for o in outputs if not is_ending(o) and is_folder(Path(o))]
    names = [Path(o) for o in outputs if not is_ending(o) and not is_folder(Path(o))]
    _check_outputs(videos, folders, names)
    if folders and not endings:
        endings = [".json"]
    placed: dict[Path, list[Path]] = {}
    bases = {video: folders[0] / video.name if folders else video for video in videos}
    stems = Counter(base.with_suffix("") for base in bases.values())
    for video, base in bases.items():
        own = base if stems[base.with_suffix("")] > 1 else base.with_suffix("")
        placed[video] = names + [own.with_name(f"{own.name}{ending}") for ending in endings]
    every = [path for paths in placed.values() for path in paths]
    for path in every:
        writer_for(path)
        if every.count(path) > 1:
            raise UsageError(
                f"{path} would be written twice",
                expected="an output of its own for each video and ending",
                hint="localize videos of the same name one by one, into folders of their own",
            )
    return placed


def _check_outputs(videos: Sequence[Path], folders: list[Path], names: list[Path]) -> None:
    if names and len(videos) > 1:
        raise UsageError(
            f"one output {names[0]} for {len(videos)} videos",
            expected="a folder, or endings such as .json .html, which go beside each video",
            hint=f"-o {names[0].suffix}",
        )
    if len(folders) > 1:
        raise UsageError(
            f"two output folders: {folders[0]} and {folders[1]}",
            expected="one folder; a file to write needs an ending",
            hint="give outputs as NAME.json, NAME.csv, NAME.html",
        )


def localize(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Video files, or folders of them; one that begins with - stands after --.",
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT...",
            help="One or more outputs: NAME.json NAME.html NAME.eaf…, NAME.mp4 for a copy of the "
            "video that shows the events; or endings (.json .vtt) to write beside each video; or "
            "a folder. Stands after the files.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="`default`, which names some 290 real events without training; a run's folder; or "
            "`toybox`, a toy."
        ),
    ] = "default",
    events: Annotated[
        str | None,
        typer.Option(
            help='Look for these events alone: "dog bark, rooster, tractor", or sets such as '
            "animals, traffic, music, ave (see `avel ls events`)."
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="A TOML file of your own events; see docs/events.md.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Take every class from this probability on (events may overlap) in place of the "
            "model's own decision."
        ),
    ] = None,
    low_threshold: Annotated[
        float | None,
        typer.Option(
            help="An event goes on while the probability is at least this; up to the threshold."
        ),
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(help="Drop events shorter than this, s.")
    ] = None,
    max_gap: Annotated[
        float | None,
        typer.Option(help="Make one of events of a class that are no further apart than this, s."),
    ] = None,
    untuned: Annotated[
        bool,
        typer.Option("--untuned", help="The paper's decision, whatever `avel tune` has stored."),
    ] = False,
    modality: Modality = "both",
    audio_track: Annotated[
        int | None, typer.Option(help="Which sound track to read, by its number in the file.")
    ] = None,
    video_track: Annotated[
        int | None, typer.Option(help="Which video track to read, by its number in the file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a file in place of a table.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Print a JSON line an event as soon as it is final, and one at a file's end.",
        ),
    ] = False,
    precision: Precision = "float32",
    device: Device = "auto",
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Neither take the file's features from the cache nor keep them there.",
        ),
    ] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", help="Write this format whatever the ending, e.g. raven."),
    ] = None,
    clips: Clips = None,
    thumbnails: Thumbnails = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the events of videos that are both seen and heard, and when.

    What is only heard or only seen goes into .json, .html and .eaf beside them, and with --modality
    anywhere.
    """
    from avel.features.listing import named_files

    say_passed_over(files)
    files = named_files(files)
    placed = output_paths(files, output or [])
    if format is not None:
        from avel.formats import format_named

        format_named(format)
        if not output:
            raise UsageError(f"--format {format} and nothing to write", expected="-o with it",
                             hint="-o NAME, or --json to print")  # fmt: skip
    if as_json and stream:
        raise UsageError("--json and --stream", expected="one of them", hint="leave one out")
    from avel.inference.decision import Decision
    from avel.inference.localizer import Localizer
    from avel.report.cards import cautions
    from avel.report.writers import writer_for

    chosen = check_modality(modality)
    asked: dict[str, Any] = {"threshold": threshold, "low_threshold": low_threshold}
    asked |= {"min_duration": min_duration, "max_gap": max_gap}
    Decision().override(**asked)  # refused before a model is loaded
    check_precision(precision)
    check_device(device)
    find = Localizer(
        model,
        events=events,
        vocabulary=vocabulary,
        cache=not no_cache,
        precision=precision,  # type: ignore[arg-type]
        device=device,
    )
    for text in find.model.card.get("notes", ()):
        note(text)
    failed: list[Exception] = []
    warned = False
    for video in files:
        try:
            began = time.perf_counter()
            check_places(placed[video])
            probed = _check_writers(video, placed[video], format, overwrite=overwrite)
            default_tracks = audio_track is None and video_track is None
            go = _stream if stream else _run
            found, shown = go(
                video,
                probed if probed is not None and default_tracks else video,
                find,
                chosen,
                decision=Decision() if untuned else None,
                **asked,
                audio_track=audio_track,
                video_track=video_track,
            )
            for path in placed[video]:
                whole = writer_for(path, format=format).lanes
                _save(found if whole else shown, path, format, overwrite=overwrite)
            detail(_pace(video, found, time.perf_counter() - began))
            done = write_events(shown, clips=clips, thumbnails=thumbnails)
            if not warned:
                for caution in cautions(found.model)[:1]:
                    note(caution)
                warned = True
            if not stream:
                _show(shown, placed[video], done, as_json=as_json)
        except AvelError as e:
            failed.append(e)
            named = str(e) if str(video) in str(e) else f"{video}: {e}"
            fail(named)
    _finish(failed, len(files))


def _pace(video: Path, timeline: Timeline, seconds: float) -> str:
    times = f"{timeline.duration / seconds:.1f} times real time" if seconds > 0 else ""
    return f"{video}: {seconds:.1f} s, outputs included, {times}"


def _check_writers(
    video: Path, paths: Sequence[Path], format: str | None, *, overwrite: bool
) -> Media | None:
    """Check the outputs before any work is done; the video, where that had to be probed for it."""
    from avel.media.file import Media
    from avel.report.writers import check_output, writer_for

    probed = None
    for path in paths:
        writer = writer_for(path, format=format)
        probed = check_output(writer, str(video), path, overwrite=overwrite) or probed
    return probed if isinstance(probed, Media) else None


def _save(found: Timeline, path: Path, format: str | None, *, overwrite: bool) -> None:
    try:
        found.save(path, format=format, overwrite=overwrite)
    except OSError as e:
        raise unwritable(path, e.strerror or str(e)) from e


def _finish(failed: list[Exception], count: int) -> None:
    if not failed:
        return
    if count > 1:
        fail(f"{len(failed)} of {count} files failed")
    wrong = len(failed) == count and all(isinstance(e, UsageError) for e in failed)
    raise typer.Exit(2 if wrong else 1)


def _run(
    video: Path, source: Path | Media, find: Localizer, modality: Choice, **options: Any
) -> tuple[Timeline, Timeline]:
    """The whole timeline of a file, and the one of what is chosen."""
    with progress_bar(video.name) as advance:
        found = find(source, progress=advance, **options)
    return found, found.choose(modality)


def _stream(
    video: Path, source: Path | Media, find: Localizer, modality: Choice, **options: Any
) -> tuple[Timeline, Timeline]:
    """Print every event as soon as it is final, and a line that says the file is done.

    Events of one modality follow at the file's end.
    """
    events, count = find.stream(source, **options), 0
    for event in events:
        if modality in ("both", "all"):
            count += 1
            _line(kind="event", video=str(video), **event.to_json())
    found = events.timeline()
    for event in found.choose(modality):
        if event.modality != "both":
            count += 1
            _line(kind="event", video=str(video), **event.to_json())
    ends = {"duration": found.duration, "events": count, "notes": list(found.notes)}
    _line(kind="end", video=str(video), **ends, model=found.model)
    return found, found.choose(modality)


def _line(**values: Any) -> None:
    print(json.dumps(values, allow_nan=False), flush=True)


def _show(
    found: Timeline, written: Sequence[Path], done: Sequence[str] = (), *, as_json: bool
) -> None:
    if as_json:
        print_json(found.to_json())
    else:
        from avel.report.view import single_modality_text

        listed = any(e.modality != "both" for e in found)  # the table has them
        apart = "" if listed else single_modality_text(found)
        notes = [*found.notes, *([apart] if apart else [])]
        print_table(_table(found), notes=notes, written=written, done=done)


def _table(found: Timeline) -> Table:
    from rich.table import Table
    from rich.text import Text

    from avel.clock import format_time
    from avel.types import MODALITIES

    length = format_time(found.duration, decimals=1)
    title = f"{printable(Path(found.video).name)}  ({length})"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("start", "end", "event", "score"):
        table.add_column(heading, justify="left" if heading == "event" else "right")
    ordered = sorted(found.events, key=lambda e: MODALITIES.index(e.modality))
    for e in ordered:
        times = (format_time(e.start, decimals=2), format_time(e.end, decimals=2))
        style = "" if e.modality == "both" else "dim"
        label = Text(printable(e.marked_label))
        table.add_row(*times, label, f"{e.score:.2f}", style=style)
    if not found.events:
        table.add_row("", "", "no events found", "")
    return table
