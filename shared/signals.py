"""Stopping politely: the first SIGTERM or SIGINT asks, the second one insists."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signal(stop: Callable[[], None]) -> None:
    """Call ``stop`` on the running event loop at the first SIGTERM or SIGINT.

    After that both signals have their usual effect again, so that a person whose process takes its
    time can still end it. Works in the main thread only.
    """
    loop = asyncio.get_running_loop()

    def first() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
        stop()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, first)
