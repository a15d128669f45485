"""Tiers for events of a class that overlap, in formats whose tiers can't hold two at a time."""

from __future__ import annotations

import heapq


class Lanes:
    """Which of a class's tiers are free when: the lowest free one takes the next event."""

    def __init__(self) -> None:
        self._busy: list[tuple[int, int]] = []  # (until, lane), the soonest free first
        self._free: list[int] = []
        self._count = 0

    def place(self, start: int, end: int) -> int:
        """The lane of an event that starts no earlier than those before it."""
        while self._busy and self._busy[0][0] <= start:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if not self._free:
            heapq.heappush(self._free, self._count)
            self._count += 1
        lane = heapq.heappop(self._free)
        heapq.heappush(self._busy, (end, lane))
        return lane
