"""Corrections as a data set: a folder that `avel extract DIR` and `avel train data=DIR` read."""

from __future__ import annotations

import csv
import io
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from avel.data.annotations import OPTIONAL, REQUIRED
from avel.errors import AvelError
from avel.files import whole, write_whole
from avel.formats.text import neutral
from avel.types import Event
from avel.web.owned import claim
from avel.web.store import Job, Store

_TABLE, _MARK, _VIDEOS = "annotations.csv", "made-by-avel-serve.txt", "videos"
_TEXT = "annotations.csv and videos here are those of corrected jobs.\n"
#: Fewer clips can't be split into those to learn from, to choose by and to judge.
LEAST = 3


class Corrected:
    """The folder: `annotations.csv`, and the corrected jobs' files as hard links or copies.

    Args:
        folder: Empty, new, or made by this class before.
        store: The jobs and corrections.
        media_of: Where a job's file lies.

    Raises:
        DataError: for a folder that holds something else, which would be written over.
    """

    def __init__(self, folder: Path, store: Store, media_of: Callable[[Job], Path]) -> None:
        self.folder, self._store, self._media_of = folder, store, media_of
        self._lock = threading.Lock()
        claim(folder, _MARK, _TEXT, option="--data")
        (folder / _VIDEOS).mkdir(exist_ok=True)
        self.update()

    def update(self) -> int:
        """Write what is corrected now; answers how many clips there are.

        A file that is gone from its root is left out.
        """
        with self._lock:
            clips = [(self._linked(job), job, events) for job, events in self._store.corrected()]
            held = [(file, job, events) for file, job, events in clips if file]
            write_whole(self.folder / _TABLE, _table(held))
            names = {Path(file).name for file, _, _ in held}
            for path in (self.folder / _VIDEOS).iterdir():
                if path.name not in names:
                    path.unlink()
            return len(held)

    def _linked(self, job: Job) -> str:
        """The job's file within the folder, put there if it isn't; empty where it is gone."""
        with suppress(AvelError, OSError):
            media = self._media_of(job)
            place = self.folder / _VIDEOS / f"{job.id}{media.suffix.lower()}"
            if not place.exists() or place.stat().st_size != media.stat().st_size:
                _link(media, place)
            return f"{_VIDEOS}/{place.name}"
        return ""


def _link(media: Path, place: Path) -> None:
    """A hard link where the disk allows, or a copy."""
    with whole(place) as temporary:
        temporary.unlink()
        try:
            os.link(media, temporary)
        except OSError:
            shutil.copyfile(media, temporary)


def _table(clips: Sequence[tuple[str, Job, Sequence[Event]]]) -> str:
    """A row an event, or one without times for a clip without any; equal files are one video."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*REQUIRED, *(c for c in OPTIONAL if c == "video")])
    for file, job, events in clips:
        video = str(job.facts.get("content", ""))[:32]
        rows = [[repr(e.start), repr(e.end), neutral(e.label)] for e in sorted(events)]
        table.writerows([file, *row, video] for row in rows or [["", "", ""]])
    return out.getvalue()
