"""How often one address may knock on the one door that strangers can reach."""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import unquote

from shared.clock import Clock
from shared.limits import ENROLMENT_CALLS_PER_MINUTE, MAX_TRACKED_ADDRESSES
from shared.trust.errors import RateLimited

WINDOW_S = 60.0


class RateLimiter:
    """A token bucket an address, refilled evenly; remembers a bounded number of addresses.

    Tokens of 256 bits cannot be guessed at any rate: this bounds the work of parsing requests.

    Args:
        clock: its monotonic time is used.
        per_minute: calls one address may make in a minute, and in one burst.
    """

    def __init__(self, clock: Clock, per_minute: int = ENROLMENT_CALLS_PER_MINUTE) -> None:
        self._clock = clock
        self._capacity = float(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Count one call; raises :class:`RateLimited` when there were too many."""
        now = self._clock.monotonic()
        level, since = self._buckets.pop(address, (self._capacity, now))
        level = min(self._capacity, level + (now - since) * self._capacity / WINDOW_S)
        allowed = level >= 1.0
        self._buckets[address] = (level - 1.0 if allowed else level, now)
        while len(self._buckets) > MAX_TRACKED_ADDRESSES:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited(
                "too many enrolment calls from this address", hint="wait a minute and try again"
            )


def address_of(peer: str) -> str:
    """Return the address in gRPC's ``ipv4:1.2.3.4:5678`` or ``ipv6:[::1]:5678``, less the port."""
    return unquote(peer).rpartition(":")[0] or peer
