"""Progress of jobs as server-sent events, and who listens to it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from avel.errors import AvelError
from avel.types import Json

#: Most listeners at a time, and seconds between two comments that keep a connection open.
MOST, _BEAT = 64, 15.0
_TROUBLES = ""  # no job's id


class ProgressFeed:
    """Server-sent events; what changes several times before it is sent is sent once.

    Args:
        describe: A job as it is now, or None where it was deleted.
        troubles: What keeps jobs from running, as error bodies; empty for nothing.
    """

    def __init__(
        self,
        describe: Callable[[str], Json | None],
        troubles: Callable[[], Sequence[Json]] = tuple,
    ) -> None:
        self._describe, self._troubles = describe, troubles
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[Listener] = set()
        #: Whether the feed has ended.
        self.ended = False

    def begin(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """End the feed of all listeners."""
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
        """Whether there are as many listeners as allowed."""
        return len(self._listeners) >= MOST

    def listen(self) -> Listener:
        """A new listener."""
        listener = Listener(self)
        self._listeners.add(listener)
        if self._troubles():
            listener.note(_TROUBLES)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.discard(listener)

    def event(self, id: str) -> str:
        """The text of a job's event."""
        if id == _TROUBLES:
            return f"event: troubles\ndata: {json.dumps(list(self._troubles()))}\n\n"
        try:
            info = self._describe(id)
        except AvelError:  # reported by the troubles event
            return ": not now\n\n"
        if info is None:
            return f"event: gone\ndata: {json.dumps({'id': id})}\n\n"
        return f"data: {json.dumps(info)}\n\n"


class Listener:
    """Jobs as they change: ``data: {…}``; ``event: gone`` with the id of a deleted one.

    ``event: troubles`` with the list of them comes first where there are any, and when they change.
    """

    def __init__(self, feed: ProgressFeed) -> None:
        self._feed = feed
        self._pending = deque(["retry: 2000\n\n"])
        self._ids: dict[str, None] = {}
        self._news = asyncio.Event()

    def note(self, id: str) -> None:
        """A job has changed."""
        self._ids[id] = None
        self._news.set()

    def end(self) -> None:
        """End the feed."""
        self._news.set()

    def leave(self) -> None:
        """Stop listening."""
        self._feed.leave(self)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> str:
        if self._pending:
            return self._pending.popleft()
        if not self._ids and not self._feed.ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _BEAT)
        self._news.clear()
        if self._feed.ended:
            self.leave()
            raise StopAsyncIteration
        if not self._ids:
            return ": keep-alive\n\n"
        id = next(iter(self._ids))
        del self._ids[id]
        return await asyncio.to_thread(self._feed.event, id)
