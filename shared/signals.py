"""Stopping politely: the first SIGTERM or SIGINT asks, the second one insists."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from shared.errors import Exit

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_at_sigterm() -> None:
    """Let SIGTERM end this process at once, with exit code 0, until something else listens to it.

    For a service that starts: it may be stopped as well as one that runs, and whoever stopped it
    should not read of a failure. As process 1 of a container it would otherwise not even hear of
    it. Nothing is put in order: a service can be killed at any moment. Works in the main thread
    only.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(Exit.OK))


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
