"""Jobs and corrections in SQLite: what must survive a restart."""

from __future__ import annotations

import json
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

#: Of the tables; a file of a newer avel is refused.
VERSION = 1
#: A job that was begun so often without an end fails: it may be what brings the server down.
MOST_TRIES = 3
#: Bytes of the file that is given up for a deletion on a full disk.
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
        name: What its file is called, for people; never part of a path.
        model: The name of the model.
        media: Its file within the job's own folder, or relative to ``root``.
        root: The name of the allowed root that holds it; empty for uploads.
        size: Bytes.
        created, finished: Seconds since 1970.
        state: Where it stands.
        tries: How often it was begun.
        key: The client's own name for the request, so that it can be repeated.
        facts: Of what was found: ``duration``, ``events``, ``has_video``, ``has_audio``, ``notes``,
            ``content``.
        error: ``got``, ``expected`` and ``do`` where it failed.
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
    """What a person made of a job's events.

    Args:
        revision: Rises by one with every change; 0 before the first.
        events: None where the found ones hold.
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
    """The tables can't be used at this moment; what was asked of them is left undone.

    Args:
        why: What SQLite says.
        full: Whether the disk is full.
        hint: As of :class:`avel.AvelError`.
    """

    def __init__(self, why: str, *, full: bool = False, hint: str = "try again later") -> None:
        super().__init__(f"the list of jobs can't be used: {why}", hint=hint)
        self.full = full

    @classmethod
    def of(cls, error: sqlite3.Error) -> StoreError:
        """What an error of SQLite means to a person."""
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

    Reading never waits for a change that is being written, by whatever program.

    Args:
        path: The SQLite file, made where it isn't there.
        patience: Seconds that a change waits for another one to end.

    Raises:
        DataError: if it can't be opened, or was written by a newer avel.
        StoreError: by every method, if the tables can't be used at that moment.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._patience, self._writer = patience, 0  # the writer is a thread's number
        self._reserve = path.with_name("reserve.bin")
        try:
            self._db = self._opened(path)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._prepare(path)
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

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._db.close()

    def keep_reserve(self) -> None:
        """Hold some room on the disk, by which a job can be deleted where there is no other."""
        with suppress(OSError):
            if not self._reserve.is_file():
                write_whole(self._reserve, bytes(RESERVE))

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing where an error comes out."""
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
        """What was committed; within a change, also what that has written so far."""
        try:
            if self._writer == threading.get_ident():
                return self._db.execute(query, values).fetchall()
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as e:
            raise StoreError.of(e) from e

    # --- jobs ------------------------------------------------------------------------------------

    def add(self, job: Job) -> Job:
        """Take a job in, at the queue's end; one of the same ``key`` is answered in its place."""
        with self._change() as db:
            held = job.key and db.execute("SELECT * FROM jobs WHERE key=?", (job.key,)).fetchone()
            if held:
                return _job(held)
            number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM jobs").fetchone()[0]
            row = asdict(job) | {
                "facts": json.dumps(job.facts), "error": json.dumps(job.error), "number": number
            }  # fmt: skip
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(row.values()))
        return job

    def get(self, id: str) -> Job | None:
        """A job by its id."""
        found = self._rows("SELECT * FROM jobs WHERE id=?", id)
        return _job(found[0]) if found else None

    def keyed(self, key: str) -> Job | None:
        """A job by the client's own name for it."""
        found = self._rows("SELECT * FROM jobs WHERE key=?", key)
        return _job(found[0]) if found else None

    def page(self, offset: int, limit: int) -> tuple[list[Job], int]:
        """Some jobs, newest first, and how many there are."""
        query = "SELECT * FROM jobs ORDER BY number DESC LIMIT ? OFFSET ?"
        total = int(self._rows("SELECT COUNT(*) FROM jobs")[0][0])
        return [_job(r) for r in self._rows(query, limit, offset)], total

    def every(self) -> list[Job]:
        """All jobs, oldest first."""
        return [_job(r) for r in self._rows("SELECT * FROM jobs ORDER BY number")]

    def queue(self) -> list[str]:
        """The ids of those that wait, the next one first."""
        query = "SELECT id FROM jobs WHERE state='queued' ORDER BY turn"
        return [str(r["id"]) for r in self._rows(query)]

    def uploaded(self) -> int:
        """Bytes of all uploads together."""
        return int(self._rows("SELECT COALESCE(SUM(size), 0) FROM jobs WHERE root=''")[0][0])

    def take(self, but: Collection[str] = ()) -> Job | None:
        """The next job, from now on running; None where none waits.

        Args:
            but: Ids that are passed over.
        """
        with self._change() as db:
            for id in self.queue():
                if id not in but:
                    db.execute("UPDATE jobs SET state='running', tries=tries+1 WHERE id=?", (id,))
                    return self.get(id)
        return None

    def finish(self, id: str, state: State, *, facts: Json = {}, error: Json = {}) -> bool:  # noqa: B006
        """The end of a running job; False where it is no longer running."""
        values = state, time.time(), json.dumps(facts), json.dumps(error), id
        with self._change() as db:
            done = db.execute(
                "UPDATE jobs SET state=?, finished=?, facts=?, error=?, tries=0"
                " WHERE id=? AND state='running'", values,
            )  # fmt: skip
        return done.rowcount > 0

    def put_back(self, id: str) -> None:
        """A running job waits again, at its old place, as if it had never begun."""
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET state='queued', tries=tries-1 WHERE id=? AND state='running'",
                (id,),
            )

    def recover(self) -> list[str]:
        """After a start: what was running waits again; ids of those that were begun too often."""
        with self._change() as db:
            query = "SELECT id FROM jobs WHERE state='running' AND tries>=?"
            given_up = [str(r["id"]) for r in db.execute(query, (MOST_TRIES,))]
            db.execute(
                "UPDATE jobs SET state='queued' WHERE state='running' AND tries<?", (MOST_TRIES,)
            )
        return given_up

    def cancel(self, id: str) -> bool:
        """Call off a job that waits or runs; False where it does neither."""
        with self._change() as db:
            done = db.execute(
                "UPDATE jobs SET state='cancelled', finished=?, tries=0"
                " WHERE id=? AND state IN ('queued', 'running')", (time.time(), id),
            )  # fmt: skip
        return done.rowcount > 0

    def retry(self, id: str, model: str) -> bool:
        """Put a job that has ended at the queue's end again; False where it hasn't ended."""
        with self._change() as db:
            done = db.execute(
                "UPDATE jobs SET state='queued', model=?, finished=NULL, tries=0, facts='{}',"
                " error='{}', turn=(SELECT MAX(turn) + 1 FROM jobs)"
                " WHERE id=? AND state IN ('done', 'failed', 'cancelled')", (model, id),
            )  # fmt: skip
        return done.rowcount > 0

    def delete(self, id: str) -> bool:
        """Forget a job and its correction, on a full disk too; False where there is none."""
        try:
            return self._deleted(id)
        except StoreError as e:
            if not e.full or not self._reserve.is_file():
                raise
        self._reserve.unlink(missing_ok=True)  # until its files are gone: see keep_reserve
        return self._deleted(id)

    def _deleted(self, id: str) -> bool:
        with self._change() as db:
            return db.execute("DELETE FROM jobs WHERE id=?", (id,)).rowcount > 0

    # --- corrections -----------------------------------------------------------------------------

    def correction(self, id: str) -> Correction:
        """What was saved of a job's events."""
        found = self._rows("SELECT * FROM corrections WHERE job=?", id)
        return _correction(found[0]) if found else Correction()

    def correct(self, id: str, revision: int, events: tuple[Event, ...]) -> Correction:
        """Save a job's events; answers them with their new revision.

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
        """Back to the found events; the revision goes on, so that old copies aren't saved over it.

        Raises:
            LookupError: if there is no such job.
        """
        with self._change() as db:
            present = self.correction(id)
            if present.events is None:
                return present
            return self._write(db, id, Correction(present.revision + 1, None, None))

    def _write(self, db: sqlite3.Connection, id: str, made: Correction) -> Correction:
        if self.get(id) is None:
            raise LookupError(id)
        events = None if made.events is None else json.dumps([e.to_json() for e in made.events])
        db.execute(
            "INSERT OR REPLACE INTO corrections (job, revision, events, saved) VALUES (?, ?, ?, ?)",
            (id, made.revision, events, made.saved),
        )
        return made

    def corrected(self) -> list[tuple[Job, tuple[Event, ...]]]:
        """All jobs with saved events, oldest first."""
        query = (
            "SELECT jobs.*, corrections.events FROM jobs JOIN corrections ON job=id"
            " WHERE corrections.events IS NOT NULL ORDER BY number"
        )
        return [(_job(r), _events(r["events"])) for r in self._rows(query)]

    def corrected_ids(self) -> set[str]:
        """The ids of all jobs with saved events."""
        found = self._rows("SELECT job FROM corrections WHERE events IS NOT NULL")
        return {str(r["job"]) for r in found}


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
