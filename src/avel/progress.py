"""Progress of long work: one protocol for all of avel, and a bar on the terminal.

A function that takes ``progress`` calls it with how much is done and how much there is in all: of
segments for one file (:func:`avel.localize`, :func:`avel.extract`), of files for many
(:func:`avel.match`), of bytes for a download (0 in all where the size isn't known). Training calls
it after every epoch with the epoch's record in place of a count (:data:`EpochProgress`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

#: Called with (done, total).
Progress = Callable[[int, int], None]
#: Called with an epoch's record (its row of history.csv) and the number of epochs in all.
EpochProgress = Callable[[dict[str, Any], int], None]


@contextmanager
def terminal_progress(title: str) -> Iterator[Progress]:
    """A bar on the terminal from the first call on, or nothing where the output isn't one."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with ExitStack() as stack:
        shown: list[Bar] = []

        def show(done: int, total: int) -> None:
            if not shown:
                bar = Bar(console=Console(stderr=True), transient=True)
                shown.append(stack.enter_context(bar))
                bar.add_task(title, total=None)
            shown[0].update(shown[0].task_ids[0], completed=done, total=total)

        yield show
