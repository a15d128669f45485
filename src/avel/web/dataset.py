"""Corrections as a data set: the folder for `avel extract DIR` and `avel train data=DIR`."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from avel.clock import time_text
from avel.csv_table import escape_formula
from avel.data.annotations import LARGEST, OPTIONAL, REQUIRED
from avel.errors import AvelError, DataError
from avel.files import disk_error, whole, write_whole
from avel.types import Event
from avel.web.owned_folders import claim_folder
from avel.web.store import Job, Store

_TABLE, _MARK, _VIDEOS = "annotations.csv", "made-by-avel-serve.txt", "videos"
_TEXT = """`avel serve --data` keeps corrected jobs here, in annotations.csv and videos.
What else is put here stays as it is. Its own videos:
"""
_COLUMNS = (*REQUIRED, *(c for c in OPTIONAL if c == "video"))
#: Names of the server's own videos, where a mark of an older version doesn't list them.
_OWN_VIDEO = re.compile(rf"{_VIDEOS}/[0-9a-f]{{16}}\.\w{{1,8}}")
#: Fewer clips can't be split into a training, a validation and a test set.
MIN_CLIPS = 3


@dataclass(frozen=True)
class _AnnotationTable:
    """The rows of `annotations.csv` that a person added, and all of its columns."""

    columns: tuple[str, ...] = _COLUMNS
    rows: tuple[dict[str, str], ...] = ()


class CorrectedDataset:
    """The folder: `annotations.csv`, and the corrected jobs' files as hard links or copies.

    Files and rows that a person adds stay as they are.

    Args:
        folder: New, empty, or written by this class before.
        store: The jobs and corrections.
        media_of: Where a job's file lies.

    Raises:
        DataError: for a folder that holds something else, which would be overwritten.
    """

    def __init__(self, folder: Path, store: Store, media_of: Callable[[Job], Path]) -> None:
        self.folder, self._store, self._media_of = folder, store, media_of
        self._lock = threading.Lock()
        #: Why the folder isn't up to date, or None.
        self.trouble: AvelError | None = None
        #: What was left out, a sentence each.
        self.notes: list[str] = []
        claim_folder(folder, _MARK, _TEXT, option="--data")
        (folder / _VIDEOS).mkdir(exist_ok=True)
        self.update()

    def update(self) -> None:
        """Write the present corrections; an error becomes :attr:`trouble` and is not raised.

        A file that is missing in its root is left out, and noted.
        """
        with self._lock:
            try:
                self._update()
            except OSError as e:
                self.trouble = _stale(disk_error(e, e.filename or self.folder))
            except AvelError as e:
                self.trouble = _stale(e)
            else:
                self.trouble = None

    def _update(self) -> None:
        listed = self._own_videos()
        foreign = self._foreign_rows(listed)
        clips, self.notes = [], []
        for job, events in self._store.corrected():
            try:
                media = self._media_of(job)
                clips.append((f"{job.id}{media.suffix.lower()}", media, job, events))
            except AvelError as e:
                self.notes.append(f"{job.name} is left out: {e.got}.")
        expected = {name for name, *_ in clips}
        self._write_mark({*listed, *expected})  # first: whatever happens, they are known as own
        table = _table_text(foreign, [(f"{_VIDEOS}/{name}", j, e) for name, _, j, e in clips])
        try:
            self._link(clips)
            write_whole(self.folder / _TABLE, table)
        except OSError:  # a full disk, perhaps: removing videos makes room
            self._remove(listed - expected)
            self._link(clips)
            write_whole(self.folder / _TABLE, table)
        self._remove(listed - expected)
        self._write_mark(expected)

    def _own_videos(self) -> set[str]:
        """The names of the videos that the server put here."""
        text = (self.folder / _MARK).read_text("utf-8")
        if text.startswith(_TEXT):
            return set(text.removeprefix(_TEXT).splitlines())
        return {
            p.name
            for p in (self.folder / _VIDEOS).iterdir()
            if _OWN_VIDEO.fullmatch(_table_name(p))
        }

    def _write_mark(self, names: Collection[str]) -> None:
        text = _TEXT + "".join(f"{name}\n" for name in sorted(names))
        mark = self.folder / _MARK
        if mark.read_text("utf-8") != text:
            write_whole(mark, text)

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            (self.folder / _VIDEOS / name).unlink(missing_ok=True)

    def _link(self, clips: Sequence[tuple[str, Path, Job, Sequence[Event]]]) -> None:
        for name, media, _, _ in clips:
            target = self.folder / _VIDEOS / name
            if not target.exists() or target.stat().st_size != media.stat().st_size:
                _link(media, target)

    def _foreign_rows(self, listed: Collection[str]) -> _AnnotationTable:
        """The rows that a person added to the table.

        Raises:
            DataError: for a table that can't be read: it must not be overwritten.
        """
        path = self.folder / _TABLE
        own_files = {f"{_VIDEOS}/{name}" for name in listed}
        if not path.is_file():
            return _AnnotationTable()
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: larger than {LARGEST} bytes", hint="make it smaller")
        try:
            table = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
            names = tuple(table.fieldnames or _COLUMNS)
            rows = tuple(row for row in table if row.get("file") not in own_files)
        except (ValueError, csv.Error) as e:
            raise DataError(f"{path}: no table ({e})", hint="correct it, or remove it") from e
        if None in names or any(None in row or None in row.values() for row in rows):
            raise DataError(f"{path}: rows of another length", hint="correct it, or remove it")
        return _AnnotationTable((*_COLUMNS, *(n for n in names if n not in _COLUMNS)), rows)


def _table_name(path: Path) -> str:
    return f"{_VIDEOS}/{path.name}"


def _stale(why: AvelError) -> AvelError:
    got = f"the data set isn't up to date: {why.got}"
    return DataError(got, expected=why.expected, hint=why.hint)


def _link(media: Path, target: Path) -> None:
    """A hard link where the disk allows, or a copy."""
    with whole(target) as temporary:
        temporary.unlink()
        try:
            os.link(media, temporary)
        except OSError:
            shutil.copyfile(media, temporary)


def _table_text(
    foreign: _AnnotationTable, clips: Sequence[tuple[str, Job, Sequence[Event]]]
) -> str:
    """One row an event, one without times for a clip without any; equal files are one video."""
    out = io.StringIO()
    table = csv.DictWriter(out, foreign.columns, restval="", lineterminator="\n")
    table.writeheader()
    for file, job, events in clips:
        video = str(job.facts.get("content", ""))[:32]
        rows = [
            [time_text(e.start), time_text(e.end), escape_formula(e.label)] for e in sorted(events)
        ]
        for row in rows or [["", "", ""]]:
            table.writerow(dict(zip(_COLUMNS, [file, *row, video], strict=True)))
    table.writerows(foreign.rows)
    return out.getvalue()
