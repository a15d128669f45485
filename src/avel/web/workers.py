"""Worker processes for jobs, each watched by a thread, which can kill and replace it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from avel.errors import AvelError, DataError
from avel.features.workers import cannot_start
from avel.files import disk_error
from avel.processes import ChildProcess, ProcessDiedError, cores, outcome_of, unexpected
from avel.types import Json
from avel.web.error_responses import body_of
from avel.web.schemas import Progress
from avel.web.store import Job, Store, StoreError
from avel.web.worker import JobFunction, WorkerJob, renamed

#: Makes the function that does a job, within the worker process: picklable.
Start = Callable[[], Any]
#: Called with a job's id.
Changed = Callable[[str], None]
T = TypeVar("T")
_log = logging.getLogger("avel.web")
_TICK = 0.2  # seconds between checks for cancellation and time limit
_LOADING = 300.0  # most seconds for loading the models
_REPORT = 0.2  # seconds between two reports of progress
_RETRY = 1.0  # seconds until the store is tried again


class WorkerPool:
    """Takes jobs from the store, in order, and has worker processes do them.

    Args:
        store: The jobs.
        start: Makes the function that does a job.
        describe: The job as a worker gets it; raises AvelError if it can't be done.
        changed: Called from other threads whenever a job has changed.
        deleted: Called once no worker works on a deleted job any more.
        troubled: Called when :attr:`trouble` has changed.
        count: Worker processes.
        limit: Longest time of a job, in seconds.
    """

    def __init__(
        self, store: Store, start: Start, *, describe: Callable[[Job], WorkerJob], changed: Changed,
        deleted: Changed, troubled: Callable[[], None], count: int, limit: float,
    ) -> None:  # fmt: skip
        #: Why no job can be started or ended at this moment, or None.
        self.trouble: AvelError | None = None
        self._troubled = troubled
        self._store, self._start, self._describe = store, start, describe
        self._changed, self._deleted, self._limit = changed, deleted, limit
        self._count, self._threads = count, max(1, cores() // count)
        self._condition = threading.Condition()
        self._stopping = False
        self._wakings = 0  # number of jobs that were enqueued
        self._take_lock = threading.Lock()  # held while a job is taken
        self._taking = False
        self._busy: dict[str, Progress | None] = {}
        self._cancelled: set[str] = set()
        self._first: ChildProcess | None = None
        self._threads_running: list[threading.Thread] = []

    def load(self) -> dict[str, Json]:
        """Start the first worker, and return the models' cards.

        Raises:
            AvelError: if a model can't be loaded.
        """
        self._first, cards = self._new_worker()
        return cards

    def begin(self) -> None:
        """Start to take jobs."""
        for number in range(self._count):
            worker, self._first = self._first, None
            thread = threading.Thread(
                target=self._work, args=(worker,), name=f"avel-worker-{number}"
            )
            self._threads_running.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all workers; their jobs wait again."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads_running:
            thread.join()
        if self._first is not None:
            self._first.end(0)

    def wake(self) -> None:
        """Wake a thread: a job waits."""
        with self._condition:
            self._wakings += 1
            self._condition.notify_all()

    def cancel(self, id: str) -> bool:
        """Stop the work on a job; False where no worker is at it."""
        with self._condition:
            if id in self._busy or self._taking:  # it may be the one that is being taken
                self._cancelled.add(id)
            return id in self._busy

    def step_of(self, id: str) -> Progress | None:
        """The progress of a running job."""
        return self._busy.get(id)

    def _take(self) -> Job | None:
        """The next job, now marked as busy; None after a while without one."""
        with self._take_lock:
            with self._condition:
                if self._stopping:
                    return None
                self._taking, wakings = True, self._wakings
                busy = list(self._busy)
            job = None
            try:
                job = self._store.take(busy)
            finally:
                with self._condition:
                    self._taking = False
                    if job is not None:
                        self._busy[job.id] = None
                    self._cancelled &= self._busy.keys()
        with self._condition:
            if job is None and not self._stopping and wakings == self._wakings:
                self._condition.wait(2.0)
        return job

    def _work(self, worker: ChildProcess | None) -> None:
        while not self._stopping:
            job = self._retried(self._take)
            if job is None:
                continue
            try:
                self._changed(job.id)
                worker = self._do(job, worker)
            except Exception as e:  # a bug: the thread goes on
                _log.exception("job %s", job.id)
                if worker is not None:
                    worker.end(0)
                worker = None
                self._failed(job, unexpected(job.name, e))
            with self._condition:
                del self._busy[job.id]
                self._cancelled.discard(job.id)
                self._condition.notify_all()
            with suppress(StoreError):
                if self._store.get(job.id) is None:
                    self._deleted(job.id)
                self._changed(job.id)
        if worker is not None:
            worker.end(0)

    def _retried(self, action: Callable[[], T]) -> T | None:
        """The result of an action on the store, retried until the store can be used.

        Returns:
            None where the pool is stopped before: a running job then waits after the next start.
        """
        while True:
            try:
                result = action()
            except StoreError as e:
                self._set_trouble(e)
            else:
                self._set_trouble(None)
                return result
            with self._condition:
                if self._stopping:
                    return None
                self._condition.wait(_RETRY)

    def _set_trouble(self, trouble: AvelError | None) -> None:
        """Report what keeps jobs from running, or that nothing does any more."""
        if str(trouble) == str(self.trouble):
            return
        self.trouble = trouble
        _log.warning("%s", trouble or "the list of jobs can be used again")
        self._troubled()

    def _do(self, job: Job, worker: ChildProcess | None) -> ChildProcess | None:
        """Have a job done, and save how it ended; returns the worker if it is still alive."""
        try:
            description = self._describe(job)
            if worker is None:
                worker, _ = self._new_worker()
            worker.send(description)
            facts = self._wait_for(job, worker)
        except AvelError as e:
            self._failed(job, e)
            return worker
        except OSError as e:
            self._failed(job, disk_error(e, job.name))
            return worker
        except ProcessDiedError as e:
            self._failed(job, _died(job, str(e)))
            return None
        if facts is None:
            worker.end(0)
            return None
        self._retried(lambda: self._store.finish(job.id, "done", facts=facts))
        return worker

    def _new_worker(self) -> tuple[ChildProcess, dict[str, Json]]:
        """A worker that has loaded the models, and their cards."""
        worker = ChildProcess(_run_worker, self._start, threads=self._threads)
        return worker, _loaded(worker)

    def _failed(self, job: Job, error: AvelError) -> None:
        self._retried(lambda: self._store.finish(job.id, "failed", error=body_of(error)))

    def _wait_for(self, job: Job, worker: ChildProcess) -> Json | None:
        """The facts of a job, or None where it was stopped.

        Raises:
            AvelError: the worker's.
            ProcessDiedError: if it died.
        """
        started = time.monotonic()
        while True:
            message = worker.receive(_TICK)
            if message is not None:
                kind, content = message
                if kind == "done":
                    return dict(content)
                if kind == "failed":
                    raise content
                self._step(job, *content, since=started)
            if job.id in self._cancelled:
                return None
            if self._stopping:
                self._retried(lambda: self._store.put_back(job.id))
                return None
            if time.monotonic() - started > self._limit:
                self._failed(job, _too_long(job, self._limit))
                return None

    def _step(self, job: Job, done: int, total: int, *, since: float) -> None:
        spent = time.monotonic() - since
        left = spent / done * (total - done) if done and spent > 1 else None
        self._busy[job.id] = Progress(done=done, total=total, seconds_left=left)
        self._changed(job.id)


def _died(job: Job, how: str) -> AvelError:
    return DataError(
        f"{job.name}: the process that worked on it died ({how})",
        hint="try again; if it dies again, the file may need more memory than there is",
    )


def _too_long(job: Job, limit: float) -> AvelError:
    return DataError(
        f"{job.name}: took longer than {limit / 60:g} minutes",
        expected="a file that is done within that time",
        hint="cut it, or start the server with a larger --job-minutes",
    )


def _loaded(worker: ChildProcess) -> dict[str, Json]:
    """Wait until a worker has loaded the models, and return their cards.

    Raises:
        AvelError: if it can't.
    """
    try:
        message = worker.receive(_LOADING)
    except ProcessDiedError as e:
        raise DataError(
            f"the worker process died while it loaded the models ({e})",
            hint="see whether there is enough memory",
        ) from e
    if message is None:
        worker.end(0)
        raise DataError(f"the models weren't loaded within {_LOADING:g} s")
    kind, content = message
    if kind == "failed":
        worker.end(0)
        raise content
    return dict(content)


def _run_worker(pipe: Connection, start: Start) -> None:
    """A worker's life: load, then do jobs and send how they ended."""
    try:
        do_job = start()
    except Exception as e:
        return pipe.send(("failed", cannot_start(e)))
    pipe.send(("ready", getattr(do_job, "cards", {})))
    while True:
        pipe.send(_do_job(do_job, pipe.recv(), pipe))


def _do_job(do_job: JobFunction, job: WorkerJob, pipe: Connection) -> tuple[str, Any]:
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last >= _REPORT:
            last = now
            pipe.send(("step", (done, total)))

    kind, content = outcome_of(partial(do_job, job, progress), job.name)
    if kind == "failed":
        content = renamed(content, Path(job.media), job.name)
    return kind, content
