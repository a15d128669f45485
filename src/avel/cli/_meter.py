"""One line that says how far many files have come: rate and time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from avel import clock
from avel.cli._terminal import progress_console

if TYPE_CHECKING:
    from types import TracebackType

    from avel.features.corpus import JobOutcome

#: Seconds between lines where the output is no terminal.
EVERY = 60.0
_LONG = 120  # segments from which a file's own progress is worth showing


class Meter:
    """The line, on a terminal; elsewhere a plain one a minute. Messages go above it.

    Args:
        total: How many files there are.
    """

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.total, self.done, self.failed = total, 0, 0
        self._made, self._seconds = 0, 0.0
        self._busy = 0.0  # seconds that went by before files that weren't there already
        self._last = self._told = time.monotonic()
        self._console, quiet = progress_console()
        columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn()
        self._bar = Progress(
            *columns, TextColumn("{task.fields[told]}"), console=self._console, transient=True,
            disable=quiet,
        )  # fmt: skip
        self._quiet = quiet
        self._task = self._bar.add_task("extracting", total=total, told="")

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def add(self, outcome: JobOutcome) -> None:
        """Count a file."""
        now = time.monotonic()
        self.done += 1
        self.failed += outcome.status in ("bad", "failed")
        if outcome.status not in ("kept", "skipped"):
            self._busy += now - self._last
        if outcome.status == "made":
            self._made += 1
            self._seconds += outcome.seconds
        self._last = now
        self._bar.update(self._task, completed=self.done, told=self.told())
        if self._quiet and now - self._told >= EVERY:
            self._told = now
            self.say(f"{self.done}/{self.total} files, {self.told()}")

    def part(self, done: int, total: int) -> None:
        """How far a long file has come."""
        if total >= _LONG:
            told = f"{self.told()}  ({100 * done // total} % of the next)"
            self._bar.update(self._task, told=told.strip())

    def told(self) -> str:
        """Rate and time left, in words; empty before the first file is made."""
        parts = []
        if self._made and self._busy > 0:
            rate = self._made / self._busy
            pace = f"{rate:.1f} files/s" if rate >= 1 else f"{60 * rate:.1f} files/min"
            left = clock.format_time((self.total - self.done) / rate, decimals=0)
            parts = [pace, f"{self._seconds / self._busy:.1f}x real time", f"{left} left"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def say(self, message: str) -> None:
        """Print a message above the line, to stderr."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
