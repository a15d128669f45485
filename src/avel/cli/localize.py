"""`avel localize`: video files in, timelines out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avel.cli._options import (
    AudioTrack,
    Clips,
    Device,
    Modality,
    Overwrite,
    Precision,
    ShowScores,
    Thumbnails,
    VideoTrack,
    check_modality,
    check_precision,
    note_ignored_files,
    print_json,
    print_table,
    progress_bar,
)
from avel.cli._outputs import WriteOptions, check_writable, output_paths, table_paths
from avel.cli._terminal import detail, fail, note
from avel.device import check_device, sleep_while_waiting
from avel.errors import AvelError, UsageError, counted, printable

if TYPE_CHECKING:
    from rich.table import Table

    from avel.inference.localizer import Localizer
    from avel.media.file import Media
    from avel.report.index_page import IndexRow
    from avel.types import Choice, Timeline


def localize(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Video files, or folders of them. After -- a name may begin with -.",
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT...",
            help="One or more outputs: NAME.json NAME.html NAME.eaf…; NAME.mp4 for a copy of the "
            "video that shows the events; endings (.json .vtt) to write beside each video; a "
            "folder; or, of many videos, one table NAME.csv.",
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
            help='Detect only these events: "dog bark, rooster, tractor", or sets such as '
            "animals, traffic, music, ave (see `avel ls events`)."
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="A TOML file of your own events; see docs/events.md.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Detect every class with at least this probability (events may overlap), in place "
            "of the model's decision."
        ),
    ] = None,
    low_threshold: Annotated[
        float | None,
        typer.Option(
            help="Continue an event while its probability is at least this; at most the threshold."
        ),
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(help="Drop events shorter than this, in seconds.")
    ] = None,
    max_gap: Annotated[
        float | None,
        typer.Option(help="Join events of one class that are at most this far apart, in seconds."),
    ] = None,
    untuned: Annotated[
        bool,
        typer.Option(
            "--untuned", help="Use the paper's decision, whatever `avel tune` has stored."
        ),
    ] = False,
    modality: Modality = "both",
    audio_track: AudioTrack = None,
    video_track: VideoTrack = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object for each file in place of a table."),
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Print a JSON line for each event once it is final, and one at a file's end.",
        ),
    ] = False,
    precision: Precision = "float32",
    device: Device = "auto",
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Neither read the file's features from the cache nor store them there.",
        ),
    ] = False,
    format: Annotated[
        str | None,
        typer.Option("--format", help="Write this format whatever the ending, such as raven."),
    ] = None,
    clips: Clips = None,
    thumbnails: Thumbnails = None,
    overwrite: Overwrite = False,
    scores: ShowScores = False,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Skip videos whose outputs all exist already."),
    ] = False,
) -> None:
    """Find the events of videos: seen and heard, and when.

    What is only heard or only seen is in .json, .html and .eaf files too, and with --modality in
    any output.
    """
    sleep_while_waiting()
    from avel.features.listing import named_files

    note_ignored_files(files)
    files = named_files(files)
    outputs = output or []
    paths = output_paths(files, outputs, format=format)
    tables = table_paths(files, outputs, format=format)
    _check_options(
        outputs, tables, format=format, as_json=as_json, stream=stream, skip_existing=skip_existing
    )
    from avel.inference.decision import Decision
    from avel.inference.localizer import Localizer

    chosen = check_modality(modality)
    settings: dict[str, Any] = {"threshold": threshold, "low_threshold": low_threshold}
    settings |= {"min_duration": min_duration, "max_gap": max_gap}
    Decision().override(**settings)  # refused before a model is loaded
    check_precision(precision)
    check_device(device)
    written = WriteOptions(format, overwrite, scores, clips, thumbnails)
    batch = _Batch(paths, tables, chosen, written, as_json=as_json, stream=stream)
    batch.check_tables()
    localizer = Localizer(
        model,
        events=events,
        vocabulary=vocabulary,
        cache=not no_cache,
        precision=precision,  # type: ignore[arg-type]
        device=device,
    )
    for text in localizer.model.card.get("notes", ()):
        note(text)
    options = {"decision": Decision() if untuned else None, **settings}
    options |= {"audio_track": audio_track, "video_track": video_track}
    try:
        for video in files:
            if skip_existing and all(path.exists() for path in paths[video]):
                batch.skip(video)
            else:
                batch.localize(video, localizer, options)
    finally:  # Ctrl-C after hours loses no table
        batch.save_tables()
        batch.save_index()
    batch.finish()


def _check_options(
    outputs: Sequence[str],
    tables: Sequence[Path],
    *,
    format: str | None,
    as_json: bool,
    stream: bool,
    skip_existing: bool,
) -> None:
    """Refuse options that contradict one another.

    Raises:
        UsageError: that names them.
    """
    if format is not None:
        from avel.formats import format_named

        format_named(format)
        if not outputs:
            raise UsageError(
                f"--format {format} needs an output", hint="-o NAME, or --json to print"
            )
    if as_json and stream:
        raise UsageError("--json and --stream exclude each other", hint="leave one out")
    if skip_existing and (tables or not outputs):
        reason = f"and {tables[0]} holds all videos" if tables else "and there is no -o"
        raise UsageError(
            f"--skip-existing needs an output for each video, {reason}",
            expected="a folder, or endings such as .json .html, which go beside each video",
        )


@dataclass
class _Batch:
    """The files of one call: what is written of each, and how many were localized.

    Args:
        paths: The outputs of each video.
        tables: The outputs that hold the events of all videos.
        modality: Which events are shown and written.
        written: How they are written.
        as_json, stream: Whether results are printed as JSON, at a file's end or by event.
    """

    paths: dict[Path, list[Path]]
    tables: list[Path]
    modality: Choice
    written: WriteOptions
    as_json: bool
    stream: bool
    done: int = 0
    skipped: int = 0
    events: int = 0
    errors: list[Exception] = field(default_factory=list)
    warned: bool = False
    rows: list[Timeline] = field(default_factory=list)
    index: list[IndexRow] = field(default_factory=list)

    def check_tables(self) -> None:
        """Refuse tables that can't be written, before any work.

        Raises:
            AvelError: that says why.
        """
        check_writable(self.tables)
        _check_writers("", self.tables, self.written)

    def skip(self, video: Path) -> None:
        """Leave out a file whose outputs exist; the index page links its report."""
        from avel.report.index_page import IndexRow

        self.skipped += 1
        self.index += [IndexRow(video.name, report) for report in self._reports(video)]

    def _reports(self, video: Path) -> list[Path]:
        """The report of a file, where one is written."""
        return [path for path in self.paths[video] if path.suffix.lower() == ".html"][:1]

    def localize(self, video: Path, localizer: Localizer, options: dict[str, Any]) -> None:
        """Localize one file and write its outputs; an error is printed and counted."""
        try:
            self._localize(video, localizer, options)
        except AvelError as e:
            self.errors.append(e)
            fail(str(e) if str(video) in str(e) else f"{video}: {e}")

    def _localize(self, video: Path, localizer: Localizer, options: dict[str, Any]) -> None:
        from avel.report.cards import cautions
        from avel.report.index_page import IndexRow
        from avel.report.writers import writer_for

        paths = self.paths[video]
        began = time.perf_counter()
        check_writable(paths)
        probed = _check_writers(str(video), paths, self.written)
        default_tracks = options["audio_track"] is None and options["video_track"] is None
        source = probed if probed is not None and default_tracks else video
        if self.stream:
            whole, shown = _stream(video, source, localizer, self.modality, **options)
        else:
            whole, shown = _run(source, localizer, self.modality, self._title(video), **options)
        for path in paths:
            lanes = writer_for(path, format=self.written.format).lanes
            self.written.save([whole if lanes else shown], path)
        detail(_pace(video, whole, time.perf_counter() - began))
        lines = self.written.write_events(shown)
        if not self.warned:
            for caution in cautions(whole.model)[:1]:
                note(caution)
            self.warned = True
        if not self.stream:
            _show(shown, paths, lines, as_json=self.as_json)
        self.done += 1
        self.events += len(shown)
        self.index += [IndexRow.of(whole, report) for report in self._reports(video)]
        if self.tables:  # a table has no scores, which would fill the memory
            self.rows.append(replace(shown, scores=None, media=None))

    def _title(self, video: Path) -> str:
        """The file's name, and which of many it is."""
        count = len(self.paths)
        number = self.done + self.skipped + len(self.errors) + 1
        return f"{number} of {count}  {video.name}" if count > 1 else video.name

    def save_tables(self) -> None:
        """Write the tables of all videos localized so far."""
        for path in self.tables if self.rows else ():
            self.written.save(self.rows, path, table=True)
            if not (self.as_json or self.stream):
                note(f"wrote {path}")

    def save_index(self) -> None:
        """Write the index page of the reports, if they lie in one folder."""
        from avel.report.index_page import index_path, save_index

        reports = [report for video in self.paths for report in self._reports(video)]
        path = index_path(reports)
        if path is None or not self.index:
            return
        missing = len(reports) - len(self.index)
        notes = [f"{counted(missing, 'file')} more: not localized."] if missing else []
        save_index(self.index, path, notes=notes)
        if not (self.as_json or self.stream):
            note(f"wrote {path}")

    def finish(self) -> None:
        """Print a line that sums up many files, and end with the exit code.

        Raises:
            typer.Exit: 1 if some input failed, 2 if every one failed as the call is wrong.
        """
        count = len(self.paths)
        if count > 1:
            parts = [f"{self.done} of {count} files localized, {self.events} events"]
            parts += [f"{self.skipped} skipped"] if self.skipped else []
            parts += [f"{len(self.errors)} of {count} files failed"] if self.errors else []
            (fail if self.errors else note)("; ".join(parts))
        if self.errors:
            wrong = len(self.errors) == count
            wrong &= all(isinstance(e, UsageError) for e in self.errors)
            raise typer.Exit(2 if wrong else 1)


def _pace(video: Path, timeline: Timeline, seconds: float) -> str:
    times = f"{timeline.duration / seconds:.1f} times real time" if seconds > 0 else ""
    return f"{video}: {seconds:.1f} s, outputs included, {times}"


def _check_writers(video: str, paths: Sequence[Path], written: WriteOptions) -> Media | None:
    """Check the outputs before any work; the probed video, where a writer had to probe it."""
    from avel.media.file import Media
    from avel.report.writers import check_output, writer_for

    probed = None
    for path in paths:
        writer = writer_for(path, format=written.format)
        probed = check_output(writer, video, path, overwrite=written.overwrite) or probed
    return probed if isinstance(probed, Media) else None


def _run(
    source: Path | Media, localizer: Localizer, modality: Choice, title: str, **options: Any
) -> tuple[Timeline, Timeline]:
    """The whole timeline of a file, and that of the chosen events."""
    with progress_bar(title) as advance:
        timeline = localizer(source, progress=advance, **options)
    return timeline, timeline.choose(modality)


def _stream(
    video: Path, source: Path | Media, localizer: Localizer, modality: Choice, **options: Any
) -> tuple[Timeline, Timeline]:
    """Print every event as soon as it is final, and a line that says the file is done.

    Events of one modality follow at the file's end.
    """
    events, count = localizer.stream(source, **options), 0
    for event in events:
        if modality in ("both", "all"):
            count += 1
            _line(kind="event", video=str(video), **event.to_json())
    timeline = events.timeline()
    for event in timeline.choose(modality):
        if event.modality != "both":
            count += 1
            _line(kind="event", video=str(video), **event.to_json())
    ends = {"duration": timeline.duration, "events": count, "notes": list(timeline.notes)}
    _line(kind="end", video=str(video), **ends, model=timeline.model)
    return timeline, timeline.choose(modality)


def _line(**values: Any) -> None:
    print(json.dumps(values, allow_nan=False), flush=True)


def _show(
    timeline: Timeline, written: Sequence[Path], lines: Sequence[str] = (), *, as_json: bool
) -> None:
    if as_json:
        print_json(timeline.to_json())
    else:
        from avel.report.view import single_modality_text

        listed = any(e.modality != "both" for e in timeline)  # the table has them
        separate = "" if listed else single_modality_text(timeline)
        notes = [*timeline.notes, *([separate] if separate else [])]
        print_table(_table(timeline), notes=notes, written=written, lines=lines)


def _table(timeline: Timeline) -> Table:
    from rich.table import Table
    from rich.text import Text

    from avel.clock import format_time
    from avel.types import MODALITIES

    length = format_time(timeline.duration, decimals=1)
    title = f"{printable(Path(timeline.video).name)}  ({length})"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("start", "end", "event", "score"):
        table.add_column(heading, justify="left" if heading == "event" else "right")
    ordered = sorted(timeline.events, key=lambda e: MODALITIES.index(e.modality))
    for e in ordered:
        times = (format_time(e.start, decimals=2), format_time(e.end, decimals=2))
        style = "" if e.modality == "both" else "dim"
        label = Text(printable(e.marked_label))
        table.add_row(*times, label, f"{e.score:.2f}", style=style)
    if not timeline.events:
        table.add_row("", "", "no events found", "")
    return table
