"""Connections to the server: idle ones are closed, to make room for new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Most connections, and most of one address.
MOST, MOST_OF_ONE = 256, 128
#: Seconds within which the head of a connection's next request has to arrive in full.
PATIENCE = 20.0


class Connection(H11Protocol):
    """A connection that is closed where it sends no request for a while.

    Where there are as many as allowed, the one that has been idle the longest is closed for a new
    one; where none is idle, one whose client doesn't read its response.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; one too many closes another connection, or itself."""
        self._idle_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._update_timer()
        same_client = [c for c in self._others() if c.address == self.address]
        if len(same_client) >= MOST_OF_ONE and not _close_one(same_client):
            self.close()
        elif len(self.connections) > MOST:
            _close_one(self._others())

    def _others(self) -> list[Connection]:
        return [c for c in self.connections if c is not self and isinstance(c, Connection)]

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self.client[0] if self.client else ""

    @property
    def idle_since(self) -> float | None:
        """When it became idle; None while a request is being answered."""
        return None if self._idle_timer is None else self._idle_timer.when()

    @property
    def stalled(self) -> bool:
        """Whether the client doesn't read its response."""
        return bool(self.flow.write_paused)

    def close(self) -> None:
        """Close it at once; it no longer counts."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of a request arrived."""
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        """A response was sent in full."""
        super().on_response_complete()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._stop_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        """Start the idle timer where no request is being answered, or stop it."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy:
            self._stop_timer()
        elif self._idle_timer is None and not self.transport.is_closing():
            self._idle_timer = self.loop.call_later(PATIENCE, self.close)

    def _stop_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


def _close_one(connections: Iterable[Connection]) -> bool:
    """Close the one that has been idle longest, or a stalled one; False where there is neither."""
    candidates = list(connections)
    idle: list[Any] = [c for c in candidates if c.idle_since is not None]
    spared = min(idle, key=lambda c: c.idle_since, default=None)
    spared = spared or next((c for c in candidates if c.stalled), None)
    if spared is not None:
        spared.close()
    return spared is not None
