"""Jobs and corrections in SQLite, which survive a restart."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avel.errors import AvelError, DataError
from avel.files import write_whole
from avel.types import Event, Json

State = Literal["queued", "running", "done", "failed", "cancelled"]

#: Version of the tables; a file of a newer avel is refused.
VERSION = 1
#: A job that was started so often without an end fails: it may crash the server.
MOST_TRIES = 3
#: Bytes of the reserve file that is removed to delete a job on a full disk.
RESERVE = 2**20
_SCHEMA = """
CREATE TABLE jobs (
  turn INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, name TEXT NOT NULL,
  state TEXT NOT NULL, model TEXT NOT NULL, media TEXT NOT NULL, root TEXT NOT NULL,
  size INTEGER NOT NULL, created REAL NOT NULL, finished REAL, tries INTEGER NOT NULL,
  key TEXT UNIQUE, facts TEXT NOT NULL, error TEXT NOT NULL, number INTEGER NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, turn);
CREATE INDEX jobs_by_number ON jobs (number);
CREATE TABLE corrections (
  job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
  revision INTEGER NOT NULL, events TEXT, saved REAL
);
"""


@dataclass(frozen=True)
class Job:
    """One file that is, or will be, localized.

    Args:
        id: 16 hexadecimal digits.
        name: The file's name for people; never part of a path.
        model: The name of the model.
        media: Its file within the job's own folder, or relative to ``root``.
        root: The name of the allowed root that holds it; empty for uploads.
        size: Bytes.
        created, finished: Seconds since 1970.
        state: Its state.
        tries: How often it was started.
        key: The client's idempotency key, so that the request can be repeated.
        facts: Of the result: ``duration``, ``events``, ``has_video``, ``has_audio``, ``notes``,
            ``content``.
        error: ``got``, ``expected`` and ``hint`` where it failed.
    """

    id: str
    name: str
    model: str
    media: str
    size: int
    root: str = ""
    created: float = field(default_factory=time.time)
    finished: float | None = None
    state: State = "queued"
    tries: int = 0
    key: str | None = None
    facts: Json = field(default_factory=dict)
    error: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Correction:
    """A person's correction of a job's events.

    Args:
        revision: Rises by one with every change; 0 before the first.
        events: None for the model's events.
        saved: Seconds since 1970.
    """

    revision: int = 0
    events: tuple[Event, ...] | None = None
    saved: float | None = None


class ConflictError(Exception):
    """Another revision was saved meanwhile."""

    def __init__(self, present: Correction) -> None:
        super().__init__()
        self.present = present


class StoreError(AvelError):
    """The tables can't be used at this moment; the requested change was not made.

    Args:
        why: The reason, from SQLite.
        full: Whether the disk is full.
        hint: As of :class:`avel.AvelError`.
    """

    def __init__(self, why: str, *, full: bool = False, hint: str = "try again later") -> None:
        super().__init__(f"the list of jobs can't be used: {why}", hint=hint)
        self.full = full

    @classmethod
    def of(cls, error: sqlite3.Error) -> StoreError:
        """The error for one of SQLite's."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            cure = "delete some jobs, or make room on the server's disk"
            return cls("the server's disk is full", full=True, hint=cure)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return cls("another program has locked it", hint="end that program, or wait for it")
        if code == sqlite3.SQLITE_READONLY:
            return cls("it may not be written", hint="see to the rights of the --state folder")
        return cls(str(error), hint="see to the --state folder and its disk")


class Store:
    """The tables; every method may be called from any thread.

    Reading never waits for a change that is being written, by any program.

    Args:
        path: The SQLite file, created where it is missing.

    Raises:
        DataError: if it can't be opened, or was written by a newer avel.
        StoreError: by every method, if the tables can't be used at that moment.
    """

    def __init__(self, path: Path) -> None:
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._patience, self._writer = (
            5.0,
            0,
        )  # seconds that a change waits for another one; the writer is a thread's number
        self._reserve = path.with_name("reserve.bin")
        try:
            self._db = self._opened(path)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._prepare(path)
            #: Tells these tables from those of other ``--state`` folders; drawn once.
            self.identity = self._drawn_identity()
            self._reader = self._opened(path)
            self.keep_reserve()
        except sqlite3.Error as e:
            raise DataError(
                f"{path}: can't be used as the list of jobs ({e})",
                expected="a file that `avel serve` wrote",
                hint="choose another folder with --state",
            ) from e

    def _opened(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(
            path, timeout=self._patience, check_same_thread=False, isolation_level=None
        )
        db.row_factory = sqlite3.Row
        return db

    def _prepare(self, path: Path) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise DataError(
                f"{path}: written by a newer avel (tables {version}, this one knows {VERSION})",
                hint="update avel, or choose another folder with --state",
            )
        if version == 0:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT;")

    def _drawn_identity(self) -> int:
        identity = int(self._db.execute("PRAGMA application_id").fetchone()[0])
        if not identity:
            identity = secrets.randbelow(2**31 - 1) + 1
            self._db.execute(f"PRAGMA application_id={identity}")
        return identity

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._db.close()

    def keep_reserve(self) -> None:
        """Reserve some room on the disk, so that a job can be deleted when the disk is full."""
        with suppress(OSError):
            if not self._reserve.is_file():
                write_whole(self._reserve, bytes(RESERVE))

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: rolled back where an error is raised."""
        if not self._lock.acquire(timeout=self._patience):
            raise StoreError("other changes are still being written")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._writer = threading.get_ident()
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            raise StoreError.of(e) from e
        finally:
            self._writer = 0
            with suppress(sqlite3.Error):
                if self._db.in_transaction:  # a COMMIT that failed may leave it open
                    self._db.execute("ROLLBACK")
            self._lock.release()

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Committed rows; within a change, also what it has written so far."""
        try:
            if self._writer == threading.get_ident():
                return self._db.execute(query, values).fetchall()
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as e:
            raise StoreError.of(e) from e

    # --- jobs ------------------------------------------------------------------------------------

    def add(self, job: Job) -> Job:
        """Add a job at the queue's end; where one has the same ``key``, that one is returned."""
        with self._change() as db:
            known = job.key and db.execute("SELECT * FROM jobs WHERE key=?", (job.key,)).fetchone()
            if known:
                return _job(known)
            number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
            row = asdict(job) | {
                "facts": json.dumps(job.facts), "error": json.dumps(job.error), "number": number
            }  # fmt: skip
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(row.values()))
        return job

    def get(self, id: str) -> Job | None:
        """A job by its id."""
        rows = self._rows("SELECT * FROM jobs WHERE id=?", id)
        return _job(rows[0]) if rows else None

    def keyed(self, key: str) -> Job | None:
        """A job by the client's idempotency key."""
        rows = self._rows("SELECT * FROM jobs WHERE key=?", key)
        return _job(rows[0]) if rows else None

    def page(self, offset: int, limit: int) -> tuple[list[Job], int]:
        """Some jobs, newest first, and how many there are."""
        query = "SELECT * FROM jobs ORDER BY number DESC LIMIT ? OFFSET ?"
        total = int(self._rows("SELECT COUNT(*) FROM jobs")[0][0])
        return [_job(r) for r in self._rows(query, limit, offset)], total

    def every(self) -> list[Job]:
        """All jobs, oldest first."""
        return [_job(r) for r in self._rows("SELECT * FROM jobs ORDER BY number")]

    def queue(self) -> list[str]:
        """The ids of the jobs that wait, the next one first."""
        query = "SELECT id FROM jobs WHERE state='queued' ORDER BY turn"
        return [str(r["id"]) for r in self._rows(query)]

    def uploaded(self) -> int:
        """Bytes of all uploads together."""
        return int(self._rows("SELECT COALESCE(SUM(size), 0) FROM jobs WHERE root=''")[0][0])

    def take(self, exclude: Collection[str] = ()) -> Job | None:
        """The next job, marked as running; None where none waits.

        Args:
            exclude: Ids of jobs that are not taken.
        """
        with self._change() as db:
            for id in self.queue():
                if id not in exclude:
                    db.execute("UPDATE jobs SET state='running', tries=tries+1 WHERE id=?", (id,))
                    return self.get(id)
        return None

    def finish(self, id: str, state: State, *, facts: Json = {}, error: Json = {}) -> bool:  # noqa: B006
        """End a running job; False where it is no longer running."""
        return self._changed(
            "UPDATE jobs SET state=?, finished=?, facts=?, error=?, tries=0"
            " WHERE id=? AND state='running'",
            state, time.time(), json.dumps(facts), json.dumps(error), id,
        )  # fmt: skip

    def set_facts(self, id: str, facts: Json) -> None:
        """Replace the facts of a job that is done."""
        self._changed("UPDATE jobs SET facts=? WHERE id=? AND state='done'", json.dumps(facts), id)

    def put_back(self, id: str) -> None:
        """Put a running job back into the queue at its old position, not counted as a try."""
        self._changed(
            "UPDATE jobs SET state='queued', tries=tries-1 WHERE id=? AND state='running'", id
        )

    def recover(self) -> list[str]:
        """After a start: running jobs wait again; returns the ids of those with too many tries."""
        with self._change() as db:
            query = "SELECT id FROM jobs WHERE state='running' AND tries>=?"
            given_up = [str(r["id"]) for r in db.execute(query, (MOST_TRIES,))]
            db.execute(
                "UPDATE jobs SET state='queued' WHERE state='running' AND tries<?", (MOST_TRIES,)
            )
        return given_up

    def cancel(self, id: str) -> bool:
        """Cancel a job that waits or runs; False where it does neither."""
        return self._changed(
            "UPDATE jobs SET state='cancelled', finished=?, tries=0"
            " WHERE id=? AND state IN ('queued', 'running')",
            time.time(), id,
        )  # fmt: skip

    def retry(self, id: str, model: str) -> bool:
        """Put a job that has ended at the queue's end again; False where it hasn't ended."""
        return self._changed(
            "UPDATE jobs SET state='queued', model=?, finished=NULL, tries=0, facts='{}',"
            " error='{}', turn=(SELECT MAX(turn) + 1 FROM jobs)"
            " WHERE id=? AND state IN ('done', 'failed', 'cancelled')",
            model, id,
        )  # fmt: skip

    def delete(self, id: str) -> bool:
        """Delete a job and its correction, on a full disk too; False where there is none."""
        try:
            return self._changed("DELETE FROM jobs WHERE id=?", id)
        except StoreError as e:
            if not e.full or not self._reserve.is_file():
                raise
        self._reserve.unlink(missing_ok=True)  # until its files are gone: see keep_reserve
        return self._changed("DELETE FROM jobs WHERE id=?", id)

    def _changed(self, query: str, *values: Any) -> bool:
        """Make a change of one statement; whether a row has changed."""
        with self._change() as db:
            return db.execute(query, values).rowcount > 0

    # --- corrections -----------------------------------------------------------------------------

    def correction(self, id: str) -> Correction:
        """The saved correction of a job."""
        rows = self._rows("SELECT * FROM corrections WHERE job=?", id)
        return _correction(rows[0]) if rows else Correction()

    def correct(self, id: str, revision: int, events: tuple[Event, ...]) -> Correction:
        """Save a job's events; returns them with their new revision.

        Raises:
            ConflictError: if ``revision`` isn't the last one.
            LookupError: if there is no such job.
        """
        with self._change() as db:
            present = self.correction(id)
            if present.revision != revision:
                raise ConflictError(present)
            return self._write(db, id, Correction(revision + 1, events, time.time()))

    def uncorrect(self, id: str) -> Correction:
        """Back to the model's events; the revision rises, so that no old copy overwrites it.

        Raises:
            LookupError: if there is no such job.
        """
        with self._change() as db:
            present = self.correction(id)
            if present.events is None:
                return present
            return self._write(db, id, Correction(present.revision + 1, None, None))

    def _write(self, db: sqlite3.Connection, id: str, correction: Correction) -> Correction:
        if self.get(id) is None:
            raise LookupError(id)
        events = (
            None
            if correction.events is None
            else json.dumps([e.to_json() for e in correction.events])
        )
        db.execute(
            "INSERT OR REPLACE INTO corrections (job, revision, events, saved) VALUES (?, ?, ?, ?)",
            (id, correction.revision, events, correction.saved),
        )
        return correction

    def corrected(self) -> list[tuple[Job, tuple[Event, ...]]]:
        """All jobs with saved events, oldest first."""
        query = (
            "SELECT jobs.*, corrections.events FROM jobs JOIN corrections ON job=id"
            " WHERE corrections.events IS NOT NULL ORDER BY number"
        )
        return [(_job(r), _events(r["events"])) for r in self._rows(query)]

    def corrected_ids(self) -> set[str]:
        """The ids of all jobs with saved events."""
        rows = self._rows("SELECT job FROM corrections WHERE events IS NOT NULL")
        return {str(r["job"]) for r in rows}


def is_store(path: Path) -> bool:
    """Whether a file holds the tables of this or an earlier avel; nothing is written."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return False
    return {"jobs", "corrections"} <= names


def _job(row: sqlite3.Row) -> Job:
    names = Job.__dataclass_fields__
    values = {n: row[n] for n in names}
    return Job(**values | {n: json.loads(values[n]) for n in ("facts", "error")})


def _events(text: str) -> tuple[Event, ...]:
    return tuple(Event(**e) for e in json.loads(text))


def _correction(row: sqlite3.Row) -> Correction:
    events = None if row["events"] is None else _events(row["events"])
    return Correction(row["revision"], events, row["saved"])
