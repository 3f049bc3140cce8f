"""What became of earlier releases at this member, so that each is judged once.

Read from what is written down anyway: the deployment table and the audit log. Nothing here depends
on *how* a release was judged, and nothing on numbers that were not signed: what a node fetches next
must not tell the coordinator what it decided last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from participant.node.registry_client import ReleaseLine
from participant.store import Store
from shared.fleet.errors import DigestMismatch

REFUSED_PAUSE = timedelta(days=1)
"""Until a release that did not verify is fetched again by itself. It may have been damaged at the
coordinator and restored from a backup, or be readable after an upgrade here; trying it more often
would only fetch the same bytes."""


@dataclass(frozen=True)
class Past:
    """What is known of releases.

    Attributes:
        judged: ids, in hex, of those about which something was decided here.
        highest: the highest number among them, as signed; 0 for none.
        refused: ids, in hex, of those that did not verify less than ``REFUSED_PAUSE`` ago.
    """

    judged: frozenset[str]
    highest: int
    refused: frozenset[str]

    def unjudged(self, lines: Iterable[ReleaseLine]) -> list[ReleaseLine]:
        """Return the lines of a catalogue that are due here, in the order of their numbers."""
        due = (line for line in lines if line.sequence > self.highest)
        known = self.judged | self.refused
        return sorted(
            (line for line in due if line.release_id not in known), key=lambda line: line.sequence
        )


def past_of(store: Store) -> Past:
    """Return what became of earlier releases; raises :class:`StorageError`."""
    judged = frozenset(row.release_id for row in store.deployments.history())
    verified = store.audit.of_kind("model.verified")
    numbers = (event.body["sequence"] for event in verified if event.body["release_id"] in judged)
    since = store.clock.now() - REFUSED_PAUSE
    refused = frozenset(
        event.body["release_id"]
        for event in store.audit.of_kind("model.refused")
        # A transfer that broke says nothing about the release.
        if event.body["code"] != DigestMismatch.code and datetime.fromisoformat(event.at) > since
    )
    return Past(judged, max(numbers, default=0), refused)
