"""Time as a value that is passed in, so that every rule about time can be tested."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never go back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.fromtimestamp(time.time(), tz=UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()


class FixedClock:
    """A clock that moves only when told to; for tests and reproducible runs."""

    def __init__(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock needs an aware time")
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the time that was set."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        self._now = datetime.fromtimestamp(self._now.timestamp() + seconds, tz=UTC)
        self._monotonic += seconds


def to_unix(moment: datetime) -> int:
    """Return whole seconds since 1970-01-01 UTC of an aware time."""
    if moment.tzinfo is None:
        raise ValueError("a naive time has no place on the wire")
    return int(moment.timestamp())


def from_unix(seconds: int) -> datetime:
    """Return the aware UTC time of whole seconds since 1970-01-01."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def rfc3339(moment: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with a trailing ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
