"""Work for worker processes in tests: no networks, and files that do as their names say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from avel.errors import WeightsError
from avel.features.corpus import JobOutcome, MediaJob, Work
from avel.files import write_whole


def write(job: MediaJob) -> JobOutcome:
    """What a worker does with a job: its target holds how often that was done, and by whom."""
    path = Path(job.target)
    if path.exists():
        return JobOutcome(job, "kept", "hash", written=path.stat().st_mtime)
    if "kill" in job.name:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    write_whole(path, f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
    return JobOutcome(job, "made", "hash", seconds=1.0, segments=1, written=path.stat().st_mtime)


def each(jobs: Sequence[MediaJob]) -> Iterator[JobOutcome]:
    for job in jobs:
        yield write(job)


def start() -> Work:
    return each


def start_without_weights() -> Work:
    raise WeightsError("no weights", expected="a file", hint="fetch it")


def start_with_a_bug() -> Work:
    raise RuntimeError("a bug")


def start_dead() -> Work:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def jobs(folder: Path, *names: str) -> list[MediaJob]:
    """Jobs whose media files hold their own names."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names:
        (folder / name).write_text(name)
        made.append(MediaJob(name, str(folder / name), str(folder / "out" / f"{name}.out")))
    return made
