"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 240.0
"""Far more than anything here takes, so that a busy machine fails no test."""


def wait_until(true: Callable[[], object], timeout: float = PATIENCE_S) -> None:
    """Return as soon as ``true()`` holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
