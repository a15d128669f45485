"""Connections to the server: those that ask nothing make room for those that do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Most connections, and most of one address.
MOST, MOST_OF_ONE = 256, 128
#: Seconds within which a connection's next request has to be asked in full, its body apart.
PATIENCE = 20.0


class Connection(H11Protocol):
    """A connection that is closed where it asks nothing for a while.

    Where there are as many as may be, the one that has asked nothing for the longest time is closed
    for a new one; then the one that doesn't read its answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; one that is too many closes another, or itself."""
        self._silent: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._look()
        own = [c for c in self._others() if c.address == self.address]
        if len(own) >= MOST_OF_ONE and not _close_one(own):
            self.close()
        elif len(self.connections) > MOST:
            _close_one(self._others())

    def _others(self) -> list[Connection]:
        return [c for c in self.connections if c is not self and isinstance(c, Connection)]

    @property
    def address(self) -> str:
        """Whose it is."""
        return self.client[0] if self.client else ""

    @property
    def silent_since(self) -> float | None:
        """When it began to ask nothing; None while it is answered."""
        return None if self._silent is None else self._silent.when()

    @property
    def stalled(self) -> bool:
        """Whether its answer isn't read."""
        return bool(self.flow.write_paused)

    def close(self) -> None:
        """Close it at once; it no longer counts."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """A request was answered."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._speak()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Begin to count the seconds where no request is being answered, or stop it."""
        answered = self.cycle is not None and not self.cycle.response_complete
        if answered:
            self._speak()
        elif self._silent is None and not self.transport.is_closing():
            self._silent = self.loop.call_later(PATIENCE, self.close)

    def _speak(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None


def _close_one(held: Iterable[Connection]) -> bool:
    """Close the one that can best be spared; False where all are being answered."""
    held = list(held)
    silent: list[Any] = [c for c in held if c.silent_since is not None]
    spared = min(silent, key=lambda c: c.silent_since, default=None)
    spared = spared or next((c for c in held if c.stalled), None)
    if spared is not None:
        spared.close()
    return spared is not None
