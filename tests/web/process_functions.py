"""Functions for bounded processes in tests: each fails in its own way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from avel.errors import DataError


def double(number: int) -> int:
    return 2 * number


def sleep(seconds: float, note: str = "") -> None:
    if note:
        Path(note).write_text(str(os.getpid()))
    time.sleep(seconds)


def take(megabytes: int) -> int:
    return len(bytearray(megabytes * 2**20))


def refuse() -> None:
    raise DataError("no labels", hint="write some")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("a bug")


def lack() -> None:
    Path("/nowhere/at/all").read_text()


def export_slowly(*args: Any) -> None:
    time.sleep(1.5)
    args[-1].write_bytes(b"a copy")


def import_slowly(*_: Any) -> None:
    time.sleep(60)
