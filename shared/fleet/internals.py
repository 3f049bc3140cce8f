"""Names of Flower's that are not public and that others than :mod:`shared.fleet.messages` need.

With that module this is all of ours that has to follow when Flower moves something; the contract
tests name every one of them, and refuse such an import anywhere else.
"""

from __future__ import annotations

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
from flwr.supercore import telemetry
from flwr.supercore.run import Run

__all__ = ["Run", "telemetry_switch"]


def telemetry_switch() -> str:
    """Return what Flower itself read of its telemetry switch, ``"0"`` for off."""
    seen: str = telemetry.FLWR_TELEMETRY_ENABLED
    return seen
