"""A function run in a process of its own, bounded in time, memory and number."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread

from avel.errors import AvelError, DataError
from avel.files import disk_error
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
        self._processes: set[SpawnProcess] = set()
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
            with suppress(ValueError):
                process.kill()

    def _in_process(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], name: str, seconds: float,
        megabytes: int | None,
    ) -> Any:  # fmt: skip
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        args = theirs, function, arguments, name, megabytes
        process = context.Process(target=_run_function, args=args, daemon=True)
        process.start()
        self._processes.add(process)
        theirs.close()
        try:
            if self._stopped or not ours.poll(seconds):
                raise DataError(
                    f"{name}: the {self._kind} took longer than {seconds:g} s",
                    hint="take a smaller file",
                )
            status, result = ours.recv()
        except (EOFError, OSError) as e:
            raise DataError(f"{name}: the process of the {self._kind} died") from e
        finally:
            process.kill()
            process.join()
            self._processes.discard(process)
            ours.close()
        if status == "failed":
            raise result
        return result


def _run_function(
    pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], name: str,
    megabytes: int | None,
) -> None:  # fmt: skip
    """In the process: call the function, and send its result or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to deal with
    with suppress(OSError, AttributeError):
        os.nice(5)  # those who look at results go first
    if megabytes is not None:
        _limit_memory(megabytes)
    outcome: tuple[str, Any]
    try:
        outcome = "done", function(*arguments)
    except AvelError as e:
        outcome = "failed", e
    except MemoryError:
        outcome = (
            "failed",
            DataError(
                f"{name}: needs more than {megabytes} MB of memory", hint="take a smaller file"
            ),
        )
    except OSError as e:
        outcome = "failed", disk_error(e, name)
    except Exception as e:
        outcome = "failed", DataError(f"{name}: an unexpected error occurred ({type(e).__name__})")
    pipe.send(outcome)


def _limit_memory(megabytes: int) -> None:
    """Bound the process's writable memory to what it has now and so many megabytes more."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, OSError, ValueError):
        return
