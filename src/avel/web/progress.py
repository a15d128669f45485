"""Who listens to the jobs' progress, and which jobs have changed since each was told last."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from avel.errors import AvelError
from avel.types import Json

#: Most listeners at a time, and seconds between signs of life.
MOST, _BEAT = 64, 15.0
_TROUBLES = ""  # no job's id


class ProgressFeed:
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
        self._listeners: set[Listener] = set()
        #: Whether there is nothing more to come.
        self.ended = False

    def begin(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """Send all listeners away."""
        self.ended = True
        for listener in self._listeners:
            listener.end()

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
            listener.note(id)

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as may be."""
        return len(self._listeners) >= MOST

    def listen(self) -> Listener:
        """Somebody listens from now on."""
        listener = Listener(self)
        self._listeners.add(listener)
        if self._troubles():
            listener.note(_TROUBLES)
        return listener

    def leave(self, listener: Listener) -> None:
        """Somebody listens no longer."""
        self._listeners.discard(listener)

    def event(self, id: str) -> str:
        """What is told of a job."""
        if id == _TROUBLES:
            return f"event: troubles\ndata: {json.dumps(list(self._troubles()))}\n\n"
        try:
            held = self._see(id)
        except AvelError:  # told by another event
            return ": not now\n\n"
        if held is None:
            return f"event: gone\ndata: {json.dumps({'id': id})}\n\n"
        return f"data: {json.dumps(held)}\n\n"


class Listener:
    """Jobs as they change: ``data: {…}``; ``event: gone`` with the id of a deleted one.

    ``event: troubles`` with the list of them comes first where there are any, and when they change.
    """

    def __init__(self, feed: ProgressFeed) -> None:
        self._feed = feed
        self._told = deque(["retry: 2000\n\n"])  # what is sent next
        self._ids: dict[str, None] = {}
        self._news = asyncio.Event()

    def note(self, id: str) -> None:
        """A job has changed."""
        self._ids[id] = None
        self._news.set()

    def end(self) -> None:
        """There is nothing more to come."""
        self._news.set()

    def leave(self) -> None:
        """Listen no longer."""
        self._feed.leave(self)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> str:
        if self._told:
            return self._told.popleft()
        if not self._ids and not self._feed.ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _BEAT)
        self._news.clear()
        if self._feed.ended:
            self.leave()
            raise StopAsyncIteration
        if not self._ids:
            return ": still here\n\n"
        id = next(iter(self._ids))
        del self._ids[id]
        return await asyncio.to_thread(self._feed.event, id)
