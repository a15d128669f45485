"""The progress of many files in one line: counts, rate and time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from avel import clock
from avel.cli._terminal import progress_console

if TYPE_CHECKING:
    from avel.features.corpus import JobOutcome

#: Seconds between lines where the output is no terminal.
EVERY = 60.0
_LONG = 120  # segments from which a file's own progress is worth showing


class Meter:
    """A progress line on a terminal, elsewhere a plain line every minute; messages go above it.

    Args:
        total: How many files there are.
    """

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.total, self.done, self.failed = total, 0, 0
        self._extracted, self._seconds = 0, 0.0
        self._busy = 0.0  # seconds spent on files without stored features
        self._last = self._printed = time.monotonic()
        self._console, quiet = progress_console()
        columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn()
        self._bar = Progress(
            *columns, TextColumn("{task.fields[status]}"), console=self._console, transient=True,
            disable=quiet,
        )  # fmt: skip
        self._quiet = quiet
        self._task = self._bar.add_task("extracting", total=total, status="")

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, outcome: JobOutcome) -> None:
        """Count a file."""
        now = time.monotonic()
        self.done += 1
        self.failed += outcome.status in ("bad", "failed")
        if outcome.status not in ("kept", "skipped"):
            self._busy += now - self._last
        if outcome.status == "made":
            self._extracted += 1
            self._seconds += outcome.seconds
        self._last = now
        self._bar.update(self._task, completed=self.done, status=self.status())
        if self._quiet and now - self._printed >= EVERY:
            self._printed = now
            self.print(f"{self.done}/{self.total} files, {self.status()}")

    def part(self, done: int, total: int) -> None:
        """Show the progress within a long file, in segments."""
        if total >= _LONG:
            status = f"{self.status()}  ({100 * done // total} % of the next)"
            self._bar.update(self._task, status=status.strip())

    def status(self) -> str:
        """Rate and time left, in words; empty before the first file is extracted."""
        parts = []
        if self._extracted and self._busy > 0:
            rate = self._extracted / self._busy
            pace = f"{rate:.1f} files/s" if rate >= 1 else f"{60 * rate:.1f} files/min"
            left = clock.format_time((self.total - self.done) / rate, decimals=0)
            parts = [pace, f"{self._seconds / self._busy:.1f}x real time", f"{left} left"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def print(self, message: str) -> None:
        """Print a message above the line, to stderr."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
