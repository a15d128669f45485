"""Local worker processes, each with its own networks: one that dies is replaced, nothing is lost.

``concurrent.futures`` gives up all that a pool still has to do when one of its processes dies.
Here every worker has a pipe of its own, and what it left undone goes back to the
:class:`~avel.features.corpus.Rota`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from avel.errors import AvelError, DataError
from avel.features.corpus import JobOutcome, MediaJob, Outcomes, Rota, Start

#: Read by torch, MKL and OpenBLAS when they are imported.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_STARTS = 3  # workers that die in a row while they load the networks
_PATIENCE = 5.0  # seconds for a worker to go before it is killed


def cores() -> int:
    """How many cores this process may use: what OMP_NUM_THREADS says, or all it has."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isascii() and told.isdigit() and int(told) > 0:
        return int(told)
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
    rota = Rota(jobs, total=total, workers=count)
    team = _Team(start, threads or max(1, cores() // count))
    try:
        for _ in range(count):
            team.hire()
        while team.members:
            yield from team.round(rota)
    finally:
        team.dismiss()


class _Worker:
    """One process, its pipe, and the files it was given and hasn't answered for."""

    def __init__(self, start: Start, threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with environment({name: str(threads) for name in THREADS}):
            self.process.start()
        theirs.close()  # or its end would never be seen
        self.ready = False
        self.lot: dict[str, MediaJob] = {}

    def give(self, lot: list[MediaJob]) -> None:
        """Hand over the next files; an empty list sends it home."""
        self.lot = {job.target: job for job in lot}
        with suppress(OSError):  # it has died: that is seen when it is listened to
            self.pipe.send(lot)

    def end(self) -> str:
        """Wait until it has gone, or kill it; how it ended."""
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        self.pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Team:
    """The workers, and what is done with what they say."""

    def __init__(self, start: Start, threads: int) -> None:
        self.start, self.threads = start, threads
        self.members: list[_Worker] = []
        self._stillborn = 0

    def hire(self) -> None:
        self.members.append(_Worker(self.start, self.threads))

    def dismiss(self) -> None:
        """Stop all of them, whatever they are doing; files are written whole or not at all."""
        for worker in self.members:
            worker.process.terminate()
        for worker in self.members:
            worker.end()
        self.members.clear()

    def round(self, rota: Rota) -> Iterator[JobOutcome]:
        """Listen until someone says something, and see to it."""
        heard = wait([worker.pipe for worker in self.members])
        for worker in [w for w in self.members if w.pipe in heard]:
            try:
                told = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker, rota)
                continue
            if isinstance(told, JobOutcome):
                if worker.lot.pop(told.job.target, None) is not None:
                    yield told
            elif isinstance(told, AvelError):
                raise told
            else:
                self._stillborn, worker.ready = 0, True
                self._next(worker, rota)

    def _next(self, worker: _Worker, rota: Rota) -> None:
        worker.give(rota.next())
        if not worker.lot:
            worker.end()
            self.members.remove(worker)

    def _replace(self, worker: _Worker, rota: Rota) -> Iterator[JobOutcome]:
        """A worker has died: its files go back, and another takes its place."""
        self.members.remove(worker)
        how = worker.end()
        yield from rota.died(list(worker.lot.values()), how)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= _STARTS:
                raise DataError(
                    f"worker processes die while they load the networks ({how})",
                    hint="take fewer with -j, or see whether there is enough memory",
                )
        self.hire()


def cannot_start(error: Exception) -> AvelError:
    """What a worker that can't load its networks says."""
    if isinstance(error, AvelError):
        return error
    return DataError(f"a worker can't load its networks ({type(error).__name__}: {error})")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for processes that are started meanwhile."""
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
    """A worker's life: load, then take lots and answer, until an empty one comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to deal with
    with suppress(EOFError, OSError):  # the parent has gone
        try:
            work = start()
        except Exception as e:
            return pipe.send(cannot_start(e))
        pipe.send("next")
        while lot := pipe.recv():
            for outcome in work(lot):
                pipe.send(outcome)
            pipe.send("next")
