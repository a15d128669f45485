"""Work for one answer, in a process of its own: bounded in time and memory, few at a time."""

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
    """A few processes at a time; who comes while too many wait is sent away.

    Nothing of it takes a thread of those that answer other requests.

    Args:
        kind: What is done there, for messages: ``"export"``.
        at_once: Processes.
        waiting: Requests that may wait for one.
    """

    def __init__(self, kind: str, *, at_once: int = 1, waiting: int = 4) -> None:
        self._kind, self._most = kind, at_once + waiting
        self._at_once, self._asked = at_once, 0
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
        """What a function answers in a process of its own.

        Args:
            function: Of a module, so that the process finds it.
            arguments: Plain values.
            name: What people call the file that it is about.
            seconds: It is stopped after so many.
            megabytes: That it may take above what it begins with, where the system has such limits.

        Raises:
            HTTPException: 429 where too many wait, or the turn doesn't come in time.
            AvelError: what the function raises, or that it was stopped or died.
        """
        if self._asked >= self._most:
            raise self._busy()
        self._asked += 1
        try:
            turns = self._turns = self._turns or asyncio.Semaphore(self._at_once)
            try:
                await asyncio.wait_for(turns.acquire(), PATIENCE)
            except TimeoutError:
                raise self._busy() from None
            try:
                work = partial(self._in_process, function, arguments, name, seconds, megabytes)
                return await to_thread.run_sync(work, limiter=CapacityLimiter(1))
            finally:
                turns.release()
        finally:
            self._asked -= 1

    def _busy(self) -> Exception:
        return http_error(
            429, f"another {self._kind} that is being made", f"{self._at_once} at a time",
            "try again later", Retry_After="10",
        )  # fmt: skip

    def stop(self) -> None:
        """End what is being done, and begin nothing more."""
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
        given = theirs, function, arguments, name, megabytes
        process = context.Process(target=_live, args=given, daemon=True)
        process.start()
        self._processes.add(process)
        theirs.close()
        try:
            if self._stopped or not ours.poll(seconds):
                raise DataError(
                    f"{name}: the {self._kind} took longer than {seconds:g} s",
                    hint="take a smaller file",
                )
            kind, held = ours.recv()
        except (EOFError, OSError) as e:
            raise DataError(f"{name}: the process of the {self._kind} died") from e
        finally:
            process.kill()
            process.join()
            self._processes.discard(process)
            ours.close()
        if kind == "failed":
            raise held
        return held


def _live(
    pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], name: str,
    megabytes: int | None,
) -> None:  # fmt: skip
    """In the process: one answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to deal with
    with suppress(OSError, AttributeError):
        os.nice(5)  # those who look at results go first
    if megabytes is not None:
        _limit_memory(megabytes)
    told: tuple[str, Any]
    try:
        told = "done", function(*arguments)
    except AvelError as e:
        told = "failed", e
    except MemoryError:
        told = (
            "failed",
            DataError(
                f"{name}: needs more than {megabytes} MB of memory", hint="take a smaller file"
            ),
        )
    except OSError as e:
        told = "failed", disk_error(e, name)
    except Exception as e:
        told = "failed", DataError(f"{name}: stumbled over something ({type(e).__name__})")
    pipe.send(told)


def _limit_memory(megabytes: int) -> None:
    """Bound what may be written to in memory to what is there now and so much more."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, OSError, ValueError):
        return
