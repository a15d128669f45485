"""A process of its own, at the other end of a pipe."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from avel.errors import AvelError, DataError
from avel.files import disk_error

#: Read by torch, MKL and OpenBLAS when they are imported.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_log = logging.getLogger("avel")


def cores() -> int:
    """How many cores this process may use: ``OMP_NUM_THREADS`` where it is set, or all it has."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isascii() and setting.isdigit() and int(setting) > 0:
        return int(setting)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class ProcessDiedError(Exception):
    """The process died; the message says how."""


class ChildProcess:
    """A spawned process that runs a function, which gets the other end of :attr:`pipe`.

    It ignores Ctrl-C, which is for this process to handle, and ends quietly where this one ended.

    Args:
        function: A module-level function, so that the process can import it.
        arguments: What it is called with after its pipe; picklable.
        threads: Number of its compute threads; 0 leaves them to its libraries.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any, threads: int = 0) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(function, theirs, *arguments), daemon=True
        )
        with _environment(dict.fromkeys(_THREADS, str(threads)) if threads else {}):
            self._process.start()
        theirs.close()  # or the end of the process would never be noticed

    def send(self, message: Any) -> None:
        """Send a message; a process that is gone is noticed by :meth:`receive`."""
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self, seconds: float | None = None) -> Any:
        """Its next message, or None after some seconds.

        Raises:
            ProcessDiedError: if the process is gone.
        """
        try:
            return self.pipe.recv() if self.pipe.poll(seconds) else None
        except (EOFError, OSError) as e:
            raise ProcessDiedError(self.end()) from e

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        self._process.kill()

    def end(self, seconds: float = 5.0) -> str:
        """Wait until the process has ended, or kill it after some seconds.

        Returns:
            How it ended: a signal's name or an exit code.
        """
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.pipe.close()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def outcome_of(
    function: Callable[[], Any], name: str, memory: str = "more memory than there is"
) -> tuple[str, Any]:
    """A function's result as ``("done", result)``, or ``("failed", AvelError)``.

    Args:
        function: What is called.
        name: What it works on, for messages.
        memory: What it needs where it runs out of memory, for the message.
    """
    try:
        return "done", function()
    except AvelError as e:
        return "failed", e
    except MemoryError:
        return "failed", DataError(f"{name}: needs {memory}", hint="take a smaller file")
    except OSError as e:
        return "failed", disk_error(e, name)
    except Exception as e:  # a bug
        _log.exception("%s", name)
        return "failed", unexpected(name, e)


def unexpected(name: str, error: Exception) -> AvelError:
    """The error of a bug."""
    return DataError(
        f"{name}: an unexpected error occurred ({type(error).__name__})",
        hint="report it, with the file if you can",
    )


def lower_priority() -> None:
    """Let other processes go first, such as the one that answers requests."""
    with suppress(OSError, AttributeError):
        os.nice(5)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
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


def _run(function: Callable[..., object], pipe: Connection, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # the parent has ended
        function(pipe, *arguments)
