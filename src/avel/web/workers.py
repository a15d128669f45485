"""Worker processes for jobs, each watched by a thread: they can be stopped, and replaced."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from avel.errors import AvelError, DataError
from avel.features.workers import THREADS, cannot_start, cores, environment
from avel.files import disk_error
from avel.types import Json
from avel.web.store import Job, Store, StoreError
from avel.web.worker import JobFunction, WorkerJob, renamed

#: Makes a worker's work, within the worker: picklable.
Start = Callable[[], Any]
#: Called with the id of a job that has changed.
Changed = Callable[[str], None]
T = TypeVar("T")
_log = logging.getLogger("avel.web")
_TICK = 0.2  # seconds between looks at what else may have happened
_START = 300.0  # most seconds for loading the models
_OFTEN = 0.2  # seconds between two reports of progress
_AGAIN = 1.0  # seconds until the store is tried again


@dataclass(frozen=True)
class Step:
    """How far a running job is.

    Args:
        done, total: Segments.
        seconds_left: By the pace so far; None where that can't be told yet.
    """

    done: int
    total: int
    seconds_left: float | None


class WorkerDiedError(Exception):
    """The process is gone; says how."""


class WorkerProcess:
    """One process that does a task at a time.

    Args:
        start: Makes its work.
        threads: Of its arithmetic.
    """

    def __init__(self, start: Start, threads: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs, start), daemon=True)
        with environment({name: str(threads) for name in THREADS}):
            self._process.start()
        theirs.close()  # or its end would never be seen

    def cards(self) -> dict[str, Json]:
        """Wait until the models are loaded, and answer their cards.

        Raises:
            AvelError: if they can't be.
        """
        held: Any
        try:
            kind, held = self.heard(_START) or ("", None)
        except WorkerDiedError as e:
            raise DataError(
                f"the worker process died while it loaded the models ({e})",
                hint="see whether there is enough memory",
            ) from e
        if kind == "failed":
            self.kill()
            raise held
        if kind != "ready":
            self.kill()
            raise DataError(f"the models weren't loaded within {_START:g} s")
        return dict(held)

    def give(self, task: WorkerJob) -> None:
        """Hand over a task; if the process is gone, that is seen when it is listened to."""
        with suppress(OSError):
            self._pipe.send(task)

    def heard(self, seconds: float) -> tuple[str, Any] | None:
        """What it says within some seconds.

        Raises:
            WorkerDiedError: if the process is gone.
        """
        try:
            return self._pipe.recv() if self._pipe.poll(seconds) else None
        except (EOFError, OSError) as e:
            raise WorkerDiedError(self.kill()) from e

    def kill(self) -> str:
        """End the process, whatever it is doing; how it ended."""
        self._process.join(0.1)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._pipe.close()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class WorkerPool:
    """Takes jobs from the store, in order, and has them done.

    Args:
        store: The jobs.
        start: Makes a worker's work.
        task_of: What a worker must be told of a job; raises AvelError if it can't be done.
        changed: Called from other threads whenever a job has changed.
        gone: Called once nothing works on a deleted job any more.
        troubled: Called when :attr:`trouble` has changed.
        count: Worker processes.
        limit: Seconds that a job may take.
    """

    def __init__(
        self, store: Store, start: Start, *, task_of: Callable[[Job], WorkerJob], changed: Changed,
        gone: Changed, troubled: Callable[[], None], count: int, limit: float,
    ) -> None:  # fmt: skip
        #: Why no job can be begun or ended at this moment, or None.
        self.trouble: AvelError | None = None
        self._troubled = troubled
        self._store, self._start, self._task_of = store, start, task_of
        self._changed, self._gone, self._limit = changed, gone, limit
        self._count, self._threads = count, max(1, cores() // count)
        self._news = threading.Condition()
        self._stopping = False
        self._wakings = 0  # how often a job came to wait
        self._one = threading.Lock()  # held while a job is taken
        self._taking = False
        self._busy: dict[str, Step | None] = {}
        self._dropped: set[str] = set()
        self._first: WorkerProcess | None = None
        self._members: list[threading.Thread] = []

    def load(self) -> dict[str, Json]:
        """Start the first worker, and answer the models' cards.

        Raises:
            AvelError: if a model can't be loaded.
        """
        self._first = WorkerProcess(self._start, self._threads)
        return self._first.cards()

    def begin(self) -> None:
        """Work from now on."""
        for number in range(self._count):
            worker, self._first = self._first, None
            member = threading.Thread(
                target=self._work, args=(worker,), name=f"avel-worker-{number}"
            )
            self._members.append(member)
            member.start()

    def stop(self) -> None:
        """End all workers; the jobs that they were at wait again."""
        with self._news:
            self._stopping = True
            self._news.notify_all()
        for member in self._members:
            member.join()
        if self._first is not None:
            self._first.kill()

    def wake(self) -> None:
        """A job waits."""
        with self._news:
            self._wakings += 1
            self._news.notify_all()

    def drop(self, id: str) -> bool:
        """Stop what works on a job; False where nothing does."""
        with self._news:
            if id in self._busy or self._taking:  # it may be the one that is being taken
                self._dropped.add(id)
            return id in self._busy

    def step_of(self, id: str) -> Step | None:
        """How far a running job is."""
        return self._busy.get(id)

    def _take(self) -> Job | None:
        """The next job, now marked as busy; None after a while in which none came."""
        with self._one:
            with self._news:
                if self._stopping:
                    return None
                self._taking, seen = True, self._wakings
                busy = list(self._busy)
            job = None
            try:
                job = self._store.take(busy)
            finally:
                with self._news:
                    self._taking = False
                    if job is not None:
                        self._busy[job.id] = None
                    self._dropped &= self._busy.keys()
        with self._news:
            if job is None and not self._stopping and seen == self._wakings:
                self._news.wait(2.0)
        return job

    def _work(self, worker: WorkerProcess | None) -> None:
        while not self._stopping:
            job = self._patiently(self._take)
            if job is None:
                continue
            try:
                self._changed(job.id)
                worker = self._do(job, worker)
            except Exception as e:  # whatever it is, the crew lives on
                _log.exception("job %s", job.id)
                if worker is not None:
                    worker.kill()
                worker = None
                self._failed(job, _unforeseen(job.name, e))
            with self._news:
                del self._busy[job.id]
                self._dropped.discard(job.id)
                self._news.notify_all()
            with suppress(StoreError):
                if self._store.get(job.id) is None:
                    self._gone(job.id)
                self._changed(job.id)
        if worker is not None:
            worker.kill()

    def _patiently(self, act: Callable[[], T]) -> T | None:
        """What an act on the store answers, tried until the store can be used.

        Returns:
            None where the crew is to end before: what was running then waits after the next start.
        """
        while True:
            try:
                done = act()
            except StoreError as e:
                self._say(e)
            else:
                self._say(None)
                return done
            with self._news:
                if self._stopping:
                    return None
                self._news.wait(_AGAIN)

    def _say(self, trouble: AvelError | None) -> None:
        """Tell of what keeps the jobs from going on, or that nothing does any more."""
        if str(trouble) == str(self.trouble):
            return
        self.trouble = trouble
        _log.warning("%s", trouble or "the list of jobs can be used again")
        self._troubled()

    def _do(self, job: Job, worker: WorkerProcess | None) -> WorkerProcess | None:
        """Have a job done, and note how it ended; the worker, if it lives on."""
        try:
            task = self._task_of(job)
            worker = worker or self._hired()
            worker.give(task)
            facts = self._listen(job, worker)
        except AvelError as e:
            self._failed(job, e)
            return worker
        except OSError as e:
            self._failed(job, disk_error(e, job.name))
            return worker
        except WorkerDiedError as e:
            self._failed(job, _died(job, str(e)))
            return None
        if facts is None:
            worker.kill()
            return None
        self._patiently(lambda: self._store.finish(job.id, "done", facts=facts))
        return worker

    def _hired(self) -> WorkerProcess:
        worker = WorkerProcess(self._start, self._threads)
        worker.cards()
        return worker

    def _failed(self, job: Job, error: AvelError) -> None:
        told = {"got": error.got, "expected": error.expected, "hint": error.hint}
        self._patiently(lambda: self._store.finish(job.id, "failed", error=told))

    def _listen(self, job: Job, worker: WorkerProcess) -> Json | None:
        """The facts of a job, or None where it was stopped.

        Raises:
            AvelError: as the worker says.
            WorkerDiedError: if it is gone.
        """
        begun = time.monotonic()
        while True:
            message = worker.heard(_TICK)
            if message is not None:
                kind, held = message
                if kind == "done":
                    return dict(held)
                if kind == "failed":
                    raise held
                self._step(job, *held, since=begun)
            if job.id in self._dropped:
                return None
            if self._stopping:
                self._patiently(lambda: self._store.put_back(job.id))
                return None
            if time.monotonic() - begun > self._limit:
                self._failed(job, _too_long(job, self._limit))
                return None

    def _step(self, job: Job, done: int, total: int, *, since: float) -> None:
        spent = time.monotonic() - since
        left = spent / done * (total - done) if done and spent > 1 else None
        self._busy[job.id] = Step(done, total, left)
        self._changed(job.id)


def _died(job: Job, how: str) -> AvelError:
    return DataError(
        f"{job.name}: the process that worked on it died ({how})",
        hint="try again; if it dies again, the file may need more memory than there is",
    )


def _unforeseen(name: str, error: Exception) -> AvelError:
    return DataError(
        f"{name}: stumbled over something unforeseen ({type(error).__name__})",
        hint="report it, with the file if you can",
    )


def _too_long(job: Job, limit: float) -> AvelError:
    return DataError(
        f"{job.name}: took longer than {limit / 60:g} minutes",
        expected="a file that is done within that time",
        hint="cut it, or start the server with a larger --job-minutes",
    )


def _live(pipe: Connection, start: Start) -> None:
    """A worker's life: load, then take tasks and answer until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to deal with
    with suppress(EOFError, OSError):
        try:
            does = start()
        except Exception as e:
            return pipe.send(("failed", cannot_start(e)))
        pipe.send(("ready", getattr(does, "cards", {})))
        while True:
            pipe.send(_answer(does, pipe.recv(), pipe))


def _answer(does: JobFunction, task: WorkerJob, pipe: Connection) -> tuple[str, Any]:
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last >= _OFTEN:
            last = now
            pipe.send(("step", (done, total)))

    try:
        return "done", does(task, progress)
    except AvelError as e:
        return "failed", renamed(e, Path(task.media), task.name)
    except OSError as e:
        return "failed", disk_error(e, task.name)
    except Exception as e:
        return "failed", _unforeseen(task.name, e)
