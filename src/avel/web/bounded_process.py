"""A function run in a process of its own, bounded in time, memory and number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread

from avel.errors import DataError
from avel.processes import ChildProcess, ProcessDiedError, lower_priority, outcome_of
from avel.web.error_responses import http_error

#: Seconds that a request waits for its turn.
PATIENCE = 10.0


class BoundedProcess:
    """Runs functions in processes, a few at a time; more requests than may wait get 429.

    It uses none of the threads that serve other requests.

    Args:
        kind: What the functions do, for messages: ``"export"``.
        at_once: Processes at a time.
        waiting: Requests that may wait for one.
    """

    def __init__(self, kind: str, *, at_once: int = 1, waiting: int = 4) -> None:
        self._kind, self._max_requests = kind, at_once + waiting
        self._at_once, self._requests = at_once, 0
        self._turns: asyncio.Semaphore | None = None
        self._processes: set[ChildProcess] = set()
        self._stopped = False

    async def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        name: str,
        seconds: float,
        megabytes: int | None = None,
    ) -> Any:
        """Call a function in a process of its own, and return its result.

        Args:
            function: A module-level function, so that the process can import it.
            arguments: Picklable values.
            name: The name of the file that it works on, for messages.
            seconds: Time limit.
            megabytes: Memory limit above what the process begins with, where the system has one.

        Raises:
            HTTPException: 429 where too many wait, or the turn doesn't come in time.
            AvelError: what the function raises, or where it was stopped or died.
        """
        if self._requests >= self._max_requests:
            raise self._too_many()
        self._requests += 1
        try:
            turns = self._turns = self._turns or asyncio.Semaphore(self._at_once)
            try:
                await asyncio.wait_for(turns.acquire(), PATIENCE)
            except TimeoutError:
                raise self._too_many() from None
            try:
                work = partial(self._in_process, function, arguments, name, seconds, megabytes)
                return await to_thread.run_sync(work, limiter=CapacityLimiter(1))
            finally:
                turns.release()
        finally:
            self._requests -= 1

    def _too_many(self) -> Exception:
        return http_error(
            429, f"too many requests for an {self._kind}", f"{self._at_once} at a time",
            "try again later", Retry_After="10",
        )  # fmt: skip

    def stop(self) -> None:
        """Kill the running processes, and start no more."""
        self._stopped = True
        for process in list(self._processes):
            process.kill()

    def _in_process(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], name: str, seconds: float,
        megabytes: int | None,
    ) -> Any:  # fmt: skip
        process = ChildProcess(_run_function, function, arguments, name, megabytes)
        self._processes.add(process)
        try:
            outcome = None if self._stopped else process.receive(seconds)
        except ProcessDiedError as e:
            raise DataError(f"{name}: the process of the {self._kind} died") from e
        finally:
            process.end(0)
            self._processes.discard(process)
        if outcome is None:
            raise DataError(
                f"{name}: the {self._kind} took longer than {seconds:g} s",
                hint="take a smaller file",
            )
        status, result = outcome
        if status == "failed":
            raise result
        return result


def _run_function(
    pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], name: str,
    megabytes: int | None,
) -> None:  # fmt: skip
    """In the process: call the function, and send its result or its error."""
    lower_priority()
    if megabytes is not None:
        _limit_memory(megabytes)
    memory = f"more than {megabytes} MB of memory" if megabytes else "more memory than there is"
    pipe.send(outcome_of(lambda: function(*arguments), name, memory))


def _limit_memory(megabytes: int) -> None:
    """Bound the process's writable memory to what it has now and so many megabytes more."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, OSError, ValueError):
        return
