"""Memory of a process that handles a few large buffers at a time, over and over."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 2 * 1024 * 1024
"""Blocks from here on are the operating system's again once they are freed: above every frame of
the fleet, below every model worth the name."""

_M_MMAP_THRESHOLD = -3
"""From glibc's ``malloc.h``; see mallopt(3)."""


def return_large_blocks() -> bool:
    """Make freed blocks of ``LARGE_BYTES`` and more leave the process; return whether it could.

    glibc raises its own threshold to the largest block that was ever freed, up to 32 MiB. Models
    and masked vectors then stay in the heaps of the threads that made them, in pieces.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
    except (AttributeError, OSError, TypeError):  # another C library or another system
        return False
