"""`manifest.csv`: the outcome of every file of a corpus, a row each.

Cells that a spreadsheet would take for a formula have an apostrophe in front in the file.

Rows go to a hidden file beside it as they come. When a run ends, they take the place of the older
rows of the same files, and the manifest is written whole. The next run merges the
rows of a run that was killed. Memory: 40 bytes a row while it is written, none before that.
"""

from __future__ import annotations

import csv
import hashlib
import io
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from avel.csv_table import escape_formula, unescape_formula
from avel.errors import DataError
from avel.features.corpus import JobOutcome, Status
from avel.files import locked, whole

NAME = "manifest.csv"
COLUMNS = (
    "file", "hash", "seconds", "segments", "status", "reason", "backbones", "precision", "time",
)  # fmt: skip
#: The manifest's name for each status.
STATUS_NAMES: dict[Status, str] = {
    "made": "done", "kept": "done", "bad": "quarantined", "skipped": "quarantined",
    "failed": "failed",
}  # fmt: skip
Row = dict[str, str]


class Manifest:
    """The manifest of a folder of features while a run adds to it.

    Args:
        folder: Where ``manifest.csv`` is or will be; made if it isn't there.

    Raises:
        DataError: if there is a ``manifest.csv`` of something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / NAME
        next(read_manifest(self.path), None)  # something else's is left alone
        self._part = self.folder / f".manifest.{secrets.token_hex(6)}.part"
        with _folder_errors(self.folder):
            self._created = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open = self._part.open("x", encoding="utf-8", newline="", buffering=1)
            #: When this run began, by the clock of the folder's own disk, in seconds since 1970.
            self.started = self._part.stat().st_mtime
        _lock(self._open)
        self._writer = csv.DictWriter(self._open, COLUMNS, lineterminator="\n")
        self._rows = 0

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, outcome: JobOutcome) -> JobOutcome:
        """Add the row of a file's outcome; one that stays in quarantine keeps its row.

        Returns:
            The outcome. What a worker wrote before it died, and another then found there, was
            made in this run.
        """
        if outcome.status == "kept" and outcome.written >= self.started:
            outcome = replace(outcome, status="made")
        if outcome.status != "skipped":
            with _folder_errors(self.folder):
                self._writer.writerow(_row(outcome))
            self._rows += 1
        return outcome

    def close(self) -> None:
        """Write the manifest whole, with the rows of this run and of killed ones."""
        if self._open.closed:
            return
        with _folder_errors(self.folder), self._open, locked(self.folder), ExitStack() as locks:
            self._open.flush()
            left = [p for p in sorted(self.folder.glob(".manifest.*.part")) if p != self._part]
            dead = [p for p in left if _is_dead(p, locks)]
            if self._rows or dead:
                _merge([self.path, *dead, self._part], self.path)
        for path in (*dead, self._part):
            path.unlink(missing_ok=True)
        if self._created:
            with suppress(OSError):  # it isn't empty
                self.folder.rmdir()


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    """Raise an OSError of a folder as an error with a hint."""
    try:
        yield
    except OSError as e:
        cure = "make room there, or choose another folder with -o"
        raise DataError(f"no manifest can be written in {folder} ({e})", hint=cure) from e


def read_manifest(path: str | Path) -> Iterator[Row]:
    """The rows of a manifest, one at a time; none where there is no such file.

    Cells are as they were before an apostrophe was put in front of them.

    Raises:
        DataError: if it is something else.
    """
    path = Path(path)
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as f:
            reader = csv.DictReader(f)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise _foreign(path, "other columns")
            for row in reader:
                if None in row or None in row.values():
                    raise _foreign(path, f"a row of another length at line {reader.line_num}")
                yield {name: unescape_formula(cell) for name, cell in row.items()}
    except csv.Error as e:
        raise _foreign(path, str(e)) from e


def _foreign(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} isn't a manifest of avel's ({what})",
        expected=",".join(COLUMNS),
        hint="move it away, or choose another folder with -o",
    )


def quarantine(folder: str | Path) -> dict[str, str]:
    """The hash of each file that stands in quarantine, by the manifest's name for it.

    Raises:
        DataError: if the folder's ``manifest.csv`` is something else.
    """
    folder, hashes = Path(folder), {}
    for path in (folder / NAME, *sorted(folder.glob(".manifest.*.part"))):
        for row in read_manifest(path) if path.name == NAME else _rows_of_part(path):
            if row["status"] == STATUS_NAMES["bad"]:
                hashes[row["file"]] = row["hash"]
            else:
                hashes.pop(row["file"], None)
    return hashes


def plain_name(name: str) -> str:
    r"""A file's name as the manifest holds it: bytes that are no UTF-8 as ``\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _row(outcome: JobOutcome) -> Row:
    there = outcome.written > 0
    when = datetime.fromtimestamp(outcome.written, UTC) if there else datetime.now(UTC)
    return {
        "file": escape_formula(plain_name(outcome.job.name)),
        "hash": outcome.content,
        "seconds": f"{outcome.seconds:.3f}" if there else "",
        "segments": str(outcome.segments) if there else "",
        "status": STATUS_NAMES[outcome.status],
        "reason": escape_formula(plain_name(outcome.reason.partition("\n")[0])[:1000]),
        "backbones": outcome.backbones,
        "precision": outcome.precision,
        "time": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _rows_of_part(path: Path) -> Iterator[Row]:
    """The rows that a run had written, without a last one that it hadn't finished."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as f:
            for cells in csv.reader(f):
                if len(cells) == len(COLUMNS) and len(cells[-1]) == len("2026-01-01T00:00:00Z"):
                    yield dict(zip(COLUMNS, map(unescape_formula, cells), strict=True))
    except (OSError, csv.Error):
        return


def _merge(sources: Iterable[Path], target: Path) -> None:
    """The last row of each file, in the order of these rows."""
    sources = list(sources)
    names = np.fromiter((_number(r["file"]) for r in _all(sources)), dtype=np.uint64)
    last = np.zeros(len(names), bool)
    last[len(names) - 1 - np.unique(names[::-1], return_index=True)[1]] = True
    with whole(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        latest = (row for row, flag in zip(_all(sources), _each(last), strict=True) if flag)
        writer.writerows({n: escape_formula(cell) for n, cell in row.items()} for row in latest)


def _each(flags: NDArray[np.bool_]) -> Iterator[bool]:
    return (bool(flag) for flag in flags)


def _all(sources: Iterable[Path]) -> Iterator[Row]:
    for path in sources:
        yield from read_manifest(path) if path.name == NAME else _rows_of_part(path)


def _number(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest)


def _lock(file: io.TextIOWrapper) -> bool:
    """Whether the file could be locked until it is closed or its process ends."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: a file that is open can't be removed there
        return True
    except OSError:
        return False
    return True


def _is_dead(part: Path, locked: ExitStack) -> bool:
    """Whether the run that wrote it has ended; if so, it is ours until the stack closes."""
    try:
        return _lock(locked.enter_context(part.open("r+", encoding="utf-8")))
    except OSError:
        return False
