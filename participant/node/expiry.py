"""Wipes secrets of runs whose time is over while nobody asks this node anything.

A node that is asked wipes them before it answers. One that is left alone, which is what a
coordinator would do that hopes to get at them later, has to look by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from shared.errors import TouchstoneError

LOOK_S = 3600.0
"""Seconds between two looks: runs last for days."""

RETRY_S = 60.0
"""Seconds until the next look when there was no moment for one."""

_log = structlog.get_logger("runs")


async def wipe_in_time(
    wipe: Callable[[], bool], *, look_s: float = LOOK_S, retry_s: float = RETRY_S
) -> None:
    """Call ``wipe`` in a thread, now and then; cancel it to stop.

    Args:
        wipe: wipes what has expired and returns at once; false if it could not look.
        look_s: seconds until the next look.
        retry_s: seconds until the next look after one that came to nothing.
    """
    while True:
        looked = await asyncio.to_thread(_look, wipe)
        await asyncio.sleep(look_s if looked else min(retry_s, look_s))


def _look(wipe: Callable[[], bool]) -> bool:
    try:
        return wipe()
    except TouchstoneError as error:
        _log.warning("no look at expired runs", code=error.code, reason=error.message)
    except Exception as error:  # noqa: BLE001 - one bad look must not be the last one
        _log.warning("no look at expired runs", error=type(error).__name__)
    return False
