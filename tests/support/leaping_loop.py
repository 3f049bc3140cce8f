"""An event loop on which waiting takes no time: for time limits, without depending on speed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its clock stands still while there is something to do, and leaps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            assert timers, "nothing will ever happen"
            self._now = max(self._now, min(timers))
        super()._run_once()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for timers alone, no sockets or threads."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(main)
