"""Who listens to the jobs' progress, and which jobs have changed since each was told last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from avel.errors import AvelError
from avel.types import Json

#: Most listeners at a time, and seconds between signs of life.
MOST, _BEAT = 64, 15.0
_TROUBLES = ""  # no job's id


class Feed:
    """Server-sent events; what changes several times before it is sent is sent once.

    Args:
        see: A job as it is now, or None where it is gone.
        troubles: What keeps jobs from going on, as errors are told; empty where nothing does.
    """

    def __init__(
        self,
        see: Callable[[str], Json | None],
        troubles: Callable[[], Sequence[Json]] = tuple,
    ) -> None:
        self._see, self._troubles = see, troubles
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[_Listener] = set()
        self._ended = False

    def begin(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """Send all listeners away."""
        self._ended = True
        for listener in self._listeners:
            listener.news.set()

    def changed(self, id: str) -> None:
        """A job has changed; may be called from any thread."""
        if self._loop is not None and self._listeners:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._note, id)

    def troubled(self) -> None:
        """The troubles have changed; may be called from any thread."""
        self.changed(_TROUBLES)

    def _note(self, id: str) -> None:
        for listener in self._listeners:
            listener.ids[id] = None
            listener.news.set()

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as may be."""
        return len(self._listeners) >= MOST

    async def listen(self) -> AsyncIterator[str]:
        """Jobs as they change: ``data: {…}``; ``event: gone`` with the id of a deleted one.

        ``event: troubles`` with the list of them comes first where there are any, and when they
        change.
        """
        listener = _Listener()
        if self._troubles():
            listener.ids[_TROUBLES] = None
            listener.news.set()
        self._listeners.add(listener)
        try:
            yield "retry: 2000\n\n"
            while not self._ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.news.wait(), _BEAT)
                listener.news.clear()
                ids, listener.ids = list(listener.ids), {}
                for id in ids:
                    yield await asyncio.to_thread(self._event, id)
                if not ids:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)

    def _event(self, id: str) -> str:
        if id == _TROUBLES:
            return f"event: troubles\ndata: {json.dumps(list(self._troubles()))}\n\n"
        try:
            held = self._see(id)
        except AvelError:  # told by another event
            return ": not now\n\n"
        if held is None:
            return f"event: gone\ndata: {json.dumps({'id': id})}\n\n"
        return f"data: {json.dumps(held)}\n\n"


class _Listener:
    def __init__(self) -> None:
        self.ids: dict[str, None] = {}
        self.news = asyncio.Event()
