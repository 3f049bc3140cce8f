"""Telling members that a run is over: they wipe its secrets, and judge its release.

The message waits in memory for those who are away, so it is told again for every run that has ended
when the service starts, and a member takes it any number of times. Nothing depends on its arrival:
a member wipes when the manifest expires, and looks for releases by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from coordinator.db.records import Run
from coordinator.rounds.courier import Courier
from shared.errors import VerificationError
from shared.fleet.exchange import ENDED, Instruction
from shared.limits import MAX_HELD_MESSAGES
from shared.trust.manifest import VerifiedManifest, verify_manifest

ENDED_TTL_S = 24 * 3600.0
"""How long members that are away are told that the run has ended, at least."""

MAX_ENDED_TTL_S = 7 * ENDED_TTL_S
"""And at most: until the manifest expires, but what waits takes memory."""

TOLD_AGAIN = MAX_HELD_MESSAGES // 2
"""Runs of which members are told again: the newest, no more than a node takes in at once. A member
that was away for so many has no secrets of the older ones but of the one it was in."""


def tell_end(
    courier: Courier,
    verified: VerifiedManifest,
    members: Iterable[int],
    release_id: bytes,
    now: datetime,
) -> None:
    """Tell members that a run is over, also those that come back later.

    Args:
        courier: the way to them.
        verified: the run's manifest.
        members: Flower's node ids.
        release_id: 16 bytes, or nothing.
        now: decides how long the message waits.
    """
    note = Instruction(run_id=verified.manifest.run_id, release_id=release_id)
    left = (verified.manifest.expires_at - now).total_seconds()
    ttl = min(max(ENDED_TTL_S, left), MAX_ENDED_TTL_S)
    courier.tell(ENDED, dict.fromkeys(sorted(members), note), ttl=ttl)


def still_open(run: Run, coordinator_key: bytes, now: datetime) -> VerifiedManifest | None:
    """Return the manifest of a run that has ended but not expired; None of any other.

    Members wipe what has expired, and of a run without a manifest they have nothing.
    """
    if not run.state.terminal or not run.manifest:
        return None
    try:
        return verify_manifest(run.manifest, coordinator_key, now)
    except VerificationError:
        return None
