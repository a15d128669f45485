"""A Ray cluster as the engine: actors that load the networks once.

Ray restarts an actor whose process dies and repeats its lot once; files that are done already are
skipped. The lot of an actor that dies again, or that stops responding, goes back to the
:class:`~avel.features.corpus.JobQueue`, and a new actor takes its place.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from avel._version import __version__
from avel.errors import AvelError, DataError, UsageError
from avel.features.corpus import JobOutcome, JobQueue, MediaJob, Outcomes, Start, Work
from avel.features.listing import absolute
from avel.features.workers import cannot_start
from avel.processes import cores

#: Cores of a worker where neither their number nor that of the workers is given.
THREADS = 4
_CARRIED = ("AVEL_CACHE", "AVEL_DEBUG")  # variables that the workers get too
_CONNECT_TIMEOUT = 10.0  # seconds within which a cluster must respond
_STORE = 80 * 2**20  # bytes of Ray's own memory for objects: an outcome is a few hundred


def on_ray(
    jobs: Iterable[MediaJob],
    start: Start,
    *,
    total: int,
    count: int = 0,
    threads: int = 0,
    address: str | None = None,
    silence_timeout: float = 120.0,
    start_timeout: float = 600.0,
) -> Outcomes:
    """Do the jobs on a Ray cluster; outcomes come as lots are done.

    Args:
        jobs: What is to be done. Media and features must lie where every node sees them by the
            same paths.
        start: Makes a worker's work; picklable.
        total: How many jobs there are.
        count: Workers; 0 for as many as the cluster has cores for.
        threads: Cores of each; 0 shares the cluster's cores among ``count``.
        address: Of a running cluster, ``"auto"`` for the one on this machine; None starts one here
            for the time of the call (or takes that of the variable ``RAY_ADDRESS``).
        silence_timeout: Seconds without a sign of life after which a worker is given up.
        start_timeout: Seconds within which the first worker must be there.

    Raises:
        UsageError: if Ray isn't installed, or there is no cluster at the address.
        AvelError: if the networks can't be loaded.
        DataError: if no worker comes up.
    """
    ray = _import()
    with _connected(ray, address, count=count, threads=threads):
        pool = _Pool.of(ray, start, count=count, threads=threads, silence_timeout=silence_timeout)
        pool.count = max(1, min(pool.count, total))
        queue = JobQueue(map(_absolute, jobs), total=total, workers=pool.count, tries=1)
        try:
            yield from pool.work(queue, start_timeout)
        finally:
            pool.stop()


def _absolute(job: MediaJob) -> MediaJob:
    return replace(job, media=absolute(job.media), target=absolute(job.target))


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the processes of other engines
    try:
        import ray
    except ImportError as e:
        raise UsageError("Ray isn't installed", hint="pip install 'avel[ray]'") from e
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, *, count: int, threads: int) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    carried = {name: os.environ[name] for name in _CARRIED if name in os.environ}
    options: dict[str, Any] = {"runtime_env": {"env_vars": carried}} if carried else {}
    if not address:
        least = max(1, count) * max(1, threads)
        options |= {"num_cpus": max(cores(), least), "include_dashboard": False}
        options |= {"object_store_memory": _STORE}
    try:
        _check_port(address)
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **options)
    except (ValueError, RuntimeError, OSError, OverflowError) as e:
        message = " ".join(str(e).split())[:300]
        cure = "start one with `ray start --head`, or leave --address out"
        raise UsageError(
            f"there is no Ray cluster at {address or 'this machine'} ({message})", hint=cure
        ) from e
    try:
        yield
    finally:
        ray.shutdown()


def _check_port(address: str | None) -> None:
    """Raise OSError where nothing listens: Ray itself would try for five minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isascii() and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT).close()


class _Actor:
    """What runs on the cluster: one set of networks.

    A task loads them, not the constructor, which Ray would repeat for ever where the process dies
    in it.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._do: Work | None = None

    def ready(self) -> tuple[str, AvelError | None]:
        """The version of avel on that node, and why the networks couldn't be loaded."""
        try:
            self._do = self._do or self._start()
        except Exception as e:
            return __version__, cannot_start(e)
        return __version__, None

    def work(self, lot: Sequence[MediaJob]) -> list[JobOutcome]:
        """Outcomes of all of a lot."""
        self._do = self._do or self._start()  # it was restarted meanwhile
        return list(self._do(lot))

    def ping(self) -> None:
        """Respond, also while a lot is being done."""


@dataclass
class _Member:
    """An actor, its task and lot, and when it last responded."""

    actor: Any
    task: Any
    lot: list[MediaJob] = field(default_factory=list)
    ping: Any = None
    last_sign: float = field(default_factory=time.monotonic)


@dataclass
class _Pool:
    """The actors of a job."""

    ray: Any
    start: Start
    kind: Any
    count: int
    threads: int
    silence_timeout: float
    members: list[_Member] = field(default_factory=list)
    failed_starts: int = 0

    @classmethod
    def of(
        cls, ray: Any, start: Start, *, count: int, threads: int, silence_timeout: float
    ) -> _Pool:
        """As many actors as asked for, or as there are cores for; GPUs are shared evenly.

        Ray tells each actor by OMP_NUM_THREADS how many cores are its own.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        whole = int(sum(node.get("CPU", 0) for node in nodes))
        count = count or max(1, whole // (threads or THREADS))
        largest = int(max(node.get("CPU", 1) for node in nodes))
        threads = max(1, min(threads or whole // count, largest))
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        kind = ray.remote(
            num_cpus=threads,
            num_gpus=1 / math.ceil(count / gpus) if gpus else 0,
            max_restarts=-1,
            max_task_retries=1,
            concurrency_groups={"signs": 1},
        )(_Actor)
        return cls(ray, start, kind, count, threads, silence_timeout)

    def work(self, queue: JobQueue, start_timeout: float) -> Iterator[JobOutcome]:
        """Hand out lots until none is left."""
        for _ in range(self.count):
            self._start_one()
        begun, since = False, time.monotonic()
        while not queue.empty or any(member.lot for member in self.members):
            wait = min(self.silence_timeout / 4, 30.0)
            tasks = [member.task for member in self.members]
            done, _ = self.ray.wait(tasks, num_returns=1, timeout=wait)
            for member in [m for m in self.members if m.task in done]:
                begun = True
                yield from self._collect(member, queue)
            if begun:
                self._give_up_silent(queue)
            elif time.monotonic() - since > start_timeout:
                raise DataError(
                    f"no worker of {self.threads} cores came up within {start_timeout:.0f} s",
                    hint="see `ray status`, or ask for fewer cores with --threads",
                )

    def stop(self) -> None:
        """Stop all actors."""
        for member in self.members:
            self._stop_one(member)
        self.members.clear()

    def _start_one(self) -> None:
        actor = self.kind.remote(self.start)
        self.members.append(_Member(actor, actor.ready.remote()))

    def _stop_one(self, member: _Member) -> None:
        with suppress(Exception):  # it may be gone already
            self.ray.kill(member.actor)

    def _collect(self, member: _Member, queue: JobQueue) -> Iterator[JobOutcome]:
        """Collect the outcomes of an actor that has finished its task, or replace one that died."""
        member.last_sign = time.monotonic()
        try:
            result = self.ray.get(member.task)
        except self.ray.exceptions.RayTaskError as e:
            raise e.cause or e from e
        except self.ray.exceptions.RayError as e:
            yield from self._replace(member, queue, type(e).__name__)
            return
        if member.lot:
            yield from result
        else:
            _check_ready(*result)
        self.failed_starts = 0
        member.lot = queue.next()
        if member.lot:
            member.task = member.actor.work.remote(member.lot)
        else:
            self._stop_one(member)
            self.members.remove(member)

    def _replace(self, member: _Member, queue: JobQueue, how: str) -> Iterator[JobOutcome]:
        self._stop_one(member)
        self.members.remove(member)
        if member.lot:
            yield from queue.worker_died(member.lot, how)
        else:
            self.failed_starts += 1
            if self.failed_starts >= 3:
                raise DataError(
                    f"workers die while they load the networks ({how})",
                    hint="see Ray's logs, and whether the nodes have avel and enough memory",
                )
        self._start_one()

    def _give_up_silent(self, queue: JobQueue) -> None:
        """Replace actors with a lot that stopped responding: their node is lost."""
        now = time.monotonic()
        for member in [m for m in self.members if m.lot]:
            if member.ping is None:
                member.ping = member.actor.ping.options(concurrency_group="signs").remote()
            elif self.ray.wait([member.ping], timeout=0)[0]:
                member.ping, member.last_sign = None, now
            elif now - member.last_sign > self.silence_timeout:
                self._stop_one(member)
                self.members.remove(member)
                queue.put_back(member.lot)
                self._start_one()


def _check_ready(version: str, error: AvelError | None) -> None:
    if error is not None:
        raise error
    if version != __version__:
        raise DataError(
            f"a node has avel {version}",
            expected=__version__,
            hint="install the same on every node",
        )
