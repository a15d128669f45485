"""Timelines from files of all formats, recognized by ending and content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avel.errors import AvelError, DataError, UsageError
from avel.files import DOWNLOAD, address_message, file_exists, is_address
from avel.formats import base
from avel.formats.base import (
    Format,
    SkippedRows,
    ending_of,
    format_endings,
    format_named,
    formats,
    stem_of,
    timeline_of,
)
from avel.formats.marks import check_overwrite, read_beside
from avel.types import Timeline


def read(path: str | Path, *, format: str | None = None) -> Timeline:
    """Read the timeline of one video, from any format of labels.

    A .json has everything but the attention maps; the others have the events (the classes are then
    those of the events, and the duration is at least the last event's end).

    Args:
        path: The file.
        format: Its format's name; None recognizes it by ending and content.

    Raises:
        UsageError: if no format has that ending or name.
        DataError: if the file is missing, too large, damaged, holds impossible times or scores,
            or the events of several videos.
    """
    timelines = read_all(path, format=format)
    if len(timelines) > 1:
        raise DataError(
            f"{path} has the events of {len(timelines)} videos",
            expected="one video",
            hint="read it with avel.report.read_all, or split it with `avel convert`",
        )
    return timelines[0]


def read_all(path: str | Path, *, format: str | None = None) -> list[Timeline]:
    """Read the timelines of all videos in a file; otherwise as :func:`read`."""
    path = Path(path)
    known = [format_named(format)] if format is not None else _candidates(path)
    text = text_of(path, base.MAX_BYTES)
    if not text.strip():
        return read_beside(path, [timeline_of(stem_of(path), [])])
    return read_beside(
        path, _load(next((f for f in known if f.recognizes(text)), known[0]), text, path)
    )


def _load(chosen: Format, text: str, path: Path) -> list[Timeline]:
    """The timelines in a text of a format; skipped rows are in the first one's notes."""
    skipped = SkippedRows(path)
    try:
        timelines = chosen.load(text, path, skipped)
    except UsageError:
        raise
    except AvelError as e:
        raise _unreadable(path, e.got) from e
    except RecursionError as e:
        raise _unreadable(path, f"{type(e).__name__}: {str(e)[:120]}") from e
    except Exception as e:  # damaged files stop the formats' own parsers with nearly any error
        raise _unreadable(path, f"{type(e).__name__}: {str(e)[:200]}") from e
    if skipped.count and not skipped.read_count:
        raise _unreadable(path, skipped.reasons)
    return [replace(timelines[0], notes=(*timelines[0].notes, *skipped.notes)), *timelines[1:]]


def check_replaceable(path: Path, format: type[Format]) -> None:
    """Refuse to overwrite labels that a person made or corrected with predictions.

    Raises:
        DataError: that says what is there.
    """
    if file_exists(path) and path.stat().st_size:
        check_overwrite(path, _timelines_at(path, format))


def _timelines_at(path: Path, format: type[Format]) -> list[Timeline] | None:
    """The timelines in a file, or None if it has something else."""
    has_ending = path.suffix.lower() in format.reads
    name = next(name for name, known in formats if known is format)
    try:
        return read_all(path, format=None if has_ending else name)
    except AvelError:
        return None


def on_file(
    timeline: Timeline, path: str | Path, player_start: float, *, format: str | None = None
) -> Timeline:
    """A label file's timeline with times of the media file.

    Subtitles have the times of a browser's player, in which the file's second 0 may be later.

    Args:
        timeline: As read.
        path: The label file.
        player_start: The player's time at second 0 of the media file
            (:func:`avel.media.probe.player_start_of`).
        format: The label file's format by name; None takes that of its ending.
    """
    if not player_start:
        return timeline
    names = [format] if format else [n for n, e in format_endings().items() if ending_of(path, [e])]
    if any(format_named(name).player for name in names):
        return timeline.from_player(player_start)
    return replace(timeline, player_start=player_start)


def check_readable(path: str | Path) -> None:
    """Refuse a file whose ending no format reads, before any work is done.

    Raises:
        UsageError: that names the endings.
    """
    _candidates(Path(path))


def _candidates(path: Path) -> list[Format]:
    """The formats that read an ending, the one that writes it first."""
    endings = format_endings().values()
    ending = ending_of(path, endings)
    known = [format_named(name) for name in format_endings()]
    matches = [f for f in known if path.suffix.lower() in f.reads]
    if not matches:
        raise UsageError(
            f"{path} can't be read: its ending is {path.suffix!r}",
            expected=f"one of {', '.join(endings)}",
            hint="rename it to the ending of its format, or name the format with --from",
        )
    return sorted(matches, key=lambda f: f.ending != ending)


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: no timeline ({why})",
        expected="the form that docs/formats.md describes",
        hint="write it again, or give the format by its name if the ending misleads",
    )


def text_of(path: Path, largest: int) -> str:
    """A file's text: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Args:
        path: The file.
        largest: The most bytes that are read.

    Raises:
        DataError: if it can't be read, is larger, or in another encoding.
    """
    try:
        with path.open("rb") as f:
            data = f.read(largest + 1)
    except (OSError, ValueError) as e:
        if is_address(path) and isinstance(e, FileNotFoundError):
            raise DataError(address_message(path), hint=DOWNLOAD) from e
        why = getattr(e, "strerror", None) or e
        cure = "correct the path, or its rights"
        raise DataError(f"{path} can't be read ({why})", hint=cure) from e
    if len(data) > largest:
        raise DataError(f"{path}: more than {largest // 2**20} MB", hint="split it")
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DataError(
            f"{path}: not {e.encoding.upper()}: byte {data[e.start]:#04x} in line {line}",
            expected="text in UTF-8, or in UTF-16 with a byte order mark",
            hint="save it as UTF-8 (in an editor's Save as…, in a spreadsheet's CSV UTF-8)",
        ) from e
