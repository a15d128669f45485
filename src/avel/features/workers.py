"""Local worker processes, each with its own networks; one that dies is replaced.

``concurrent.futures`` gives up all pending work when one of a pool's processes dies. Here every
worker has a pipe of its own, and the jobs it hadn't finished go back to the
:class:`~avel.features.corpus.JobQueue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait

from avel.errors import AvelError, DataError
from avel.features.corpus import JobOutcome, JobQueue, MediaJob, Outcomes, Start
from avel.processes import ChildProcess, ProcessDiedError, cores

_MAX_FAILED_STARTS = 3  # workers that die in a row while they load the networks


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


class _Worker(ChildProcess):
    """One process, and the files that it hasn't finished yet."""

    def __init__(self, start: Start, threads: int) -> None:
        super().__init__(_serve, start, threads=threads)
        self.ready = False
        self.lot: dict[str, MediaJob] = {}

    def give(self, lot: list[MediaJob]) -> None:
        """Send the next files; an empty list ends the process."""
        self.lot = {job.target: job for job in lot}
        self.send(lot)


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
            worker.kill()
        for worker in self.members:
            worker.end()
        self.members.clear()

    def round(self, queue: JobQueue) -> Iterator[JobOutcome]:
        """Wait for messages of the workers, and handle them."""
        ready = wait([worker.pipe for worker in self.members])
        for worker in [w for w in self.members if w.pipe in ready]:
            try:
                message = worker.receive()
            except ProcessDiedError as e:
                yield from self._replace(worker, queue, str(e))
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

    def _replace(self, worker: _Worker, queue: JobQueue, how: str) -> Iterator[JobOutcome]:
        """Put back the files of a worker that died, and start another one."""
        self.members.remove(worker)
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


def _serve(pipe: Connection, start: Start) -> None:
    """The main loop of a worker: load, then do lots and send outcomes, until an empty lot comes."""
    try:
        work = start()
    except Exception as e:
        return pipe.send(cannot_start(e))
    pipe.send("next")
    while lot := pipe.recv():
        for outcome in work(lot):
            pipe.send(outcome)
        pipe.send("next")
