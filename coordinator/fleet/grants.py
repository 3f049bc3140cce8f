"""Who may upload a large reply now: first come, first served, a fixed number at once.

A grant is held from the moment it is given until the reply has been consumed, not merely received.
The coordinator's memory is therefore bounded by the number of grants, whatever the number of
members (docs: the secure sum).
"""

from __future__ import annotations

from collections import deque


class GrantBook:
    """Pure bookkeeping over keys (ids of instructions); its owner does the locking."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("at least one upload must be possible")
        self._capacity = capacity
        self._queue: deque[str] = deque()
        self._held: set[str] = set()

    @property
    def held(self) -> frozenset[str]:
        """Keys that hold a grant."""
        return frozenset(self._held)

    def request(self, key: str) -> None:
        """Queue ``key`` once; asking again while queued or granted changes nothing."""
        if key not in self._held and key not in self._queue:
            self._queue.append(key)

    def advance(self) -> list[str]:
        """Grant to the longest waiting while there is room; return the newly granted keys."""
        fresh: list[str] = []
        while self._queue and len(self._held) < self._capacity:
            key = self._queue.popleft()
            self._held.add(key)
            fresh.append(key)
        return fresh

    def release(self, key: str) -> None:
        """Forget ``key``, whether it was queued, granted or neither."""
        self._held.discard(key)
        if key in self._queue:
            self._queue.remove(key)
