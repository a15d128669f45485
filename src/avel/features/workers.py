"""Local worker processes, each with its own networks; one that dies is replaced.

``concurrent.futures`` gives up all pending work when one of a pool's processes dies. Here every
worker has a pipe of its own, and the jobs it hadn't finished go back to the
:class:`~avel.features.corpus.JobQueue`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from avel.errors import AvelError, DataError
from avel.features.corpus import JobOutcome, JobQueue, MediaJob, Outcomes, Start

#: Read by torch, MKL and OpenBLAS when they are imported.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MAX_FAILED_STARTS = 3  # workers that die in a row while they load the networks
_END_TIMEOUT = 5.0  # seconds for a worker to go before it is killed


def cores() -> int:
    """How many cores this process may use: ``OMP_NUM_THREADS`` where it is set, or all it has."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isascii() and setting.isdigit() and int(setting) > 0:
        return int(setting)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_processes(
    jobs: Iterable[MediaJob], start: Start, *, total: int, count: int, threads: int = 0
) -> Outcomes:
    """Do the jobs in processes of this machine; outcomes come as files are done.

    Args:
        jobs: What is to be done; read as it is expected.
        start: Makes a worker's work; picklable.
        total: How many jobs there are.
        count: Processes.
        threads: Of each; 0 shares this machine's cores among them.

    Raises:
        AvelError: if the networks can't be loaded.
        DataError: if workers die before they have done anything.
    """
    count = max(1, min(count, total))
    queue = JobQueue(jobs, total=total, workers=count)
    workers = _Workers(start, threads or max(1, cores() // count))
    try:
        for _ in range(count):
            workers.start_one()
        while workers.members:
            yield from workers.round(queue)
    finally:
        workers.stop()


class _Worker:
    """One process, its pipe, and the files that it hasn't finished yet."""

    def __init__(self, start: Start, threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with environment({name: str(threads) for name in THREADS}):
            self.process.start()
        theirs.close()  # else the end of the process would go unnoticed
        self.ready = False
        self.lot: dict[str, MediaJob] = {}

    def give(self, lot: list[MediaJob]) -> None:
        """Send the next files; an empty list ends the process."""
        self.lot = {job.target: job for job in lot}
        with suppress(OSError):  # it has died, which the next read shows
            self.pipe.send(lot)

    def end(self) -> str:
        """Wait until the process has ended, or kill it; returns how it ended."""
        self.process.join(_END_TIMEOUT)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        self.pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Workers:
    """The worker processes, and the handling of their messages."""

    def __init__(self, start: Start, threads: int) -> None:
        self.start, self.threads = start, threads
        self.members: list[_Worker] = []
        self._failed_starts = 0

    def start_one(self) -> None:
        self.members.append(_Worker(self.start, self.threads))

    def stop(self) -> None:
        """Stop all of them at once; files are written whole or not at all."""
        for worker in self.members:
            worker.process.terminate()
        for worker in self.members:
            worker.end()
        self.members.clear()

    def round(self, queue: JobQueue) -> Iterator[JobOutcome]:
        """Wait for messages of the workers, and handle them."""
        ready = wait([worker.pipe for worker in self.members])
        for worker in [w for w in self.members if w.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker, queue)
                continue
            if isinstance(message, JobOutcome):
                if worker.lot.pop(message.job.target, None) is not None:
                    yield message
            elif isinstance(message, AvelError):
                raise message
            else:
                self._failed_starts, worker.ready = 0, True
                self._next(worker, queue)

    def _next(self, worker: _Worker, queue: JobQueue) -> None:
        worker.give(queue.next())
        if not worker.lot:
            worker.end()
            self.members.remove(worker)

    def _replace(self, worker: _Worker, queue: JobQueue) -> Iterator[JobOutcome]:
        """Put back the files of a worker that died, and start another one."""
        self.members.remove(worker)
        how = worker.end()
        yield from queue.worker_died(list(worker.lot.values()), how)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise DataError(
                    f"worker processes die while they load the networks ({how})",
                    hint="take fewer with -j, or see whether there is enough memory",
                )
        self.start_one()


def cannot_start(error: Exception) -> AvelError:
    """The error of a worker that can't load its networks."""
    if isinstance(error, AvelError):
        return error
    return DataError(f"a worker can't load its networks ({type(error).__name__}: {error})")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started within the context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, start: Start) -> None:
    """The main loop of a worker: load, then do lots and send outcomes, until an empty lot comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    with suppress(EOFError, OSError):  # the parent has ended
        try:
            work = start()
        except Exception as e:
            return pipe.send(cannot_start(e))
        pipe.send("next")
        while lot := pipe.recv():
            for outcome in work(lot):
                pipe.send(outcome)
            pipe.send("next")
