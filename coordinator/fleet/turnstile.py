"""How many calls one member may have open at once: none can crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.limits import MAX_CALLS_OF_MEMBER
from shared.trust.errors import RateLimited


class Turnstile:
    """Counts a service's open calls by member; lives on the event loop."""

    def __init__(self, limit: int = MAX_CALLS_OF_MEMBER) -> None:
        self._limit = limit
        self._open: Counter[int] = Counter()

    @contextmanager
    def enter(self, index: int) -> Iterator[None]:
        """Count a call of member ``index`` for as long as the block lasts.

        Raises:
            RateLimited: the member has too many open.
        """
        if self._open[index] >= self._limit:
            raise RateLimited(
                f"this member has {self._limit} calls open already", hint="try again later"
            )
        self._open[index] += 1
        try:
            yield
        finally:
            self._open[index] -= 1
            if not self._open[index]:
                del self._open[index]
