"""Renewals without a network, and alliances whose certificates are old."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from coordinator.db import Database
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.renewing import Renewals
from participant.node.keystore import connection_pair
from participant.node.renewal import Exchange
from shared.clock import FixedClock, SystemClock
from shared.trust.renewal import RenewalGrant, RenewalRequest
from tests.support.alliance import Alliance, found_alliance

AGE = timedelta(days=700)
"""Of 825 days, so that every certificate is due and none has expired."""


def old_alliance(tmp_path: Path, members: Iterable[str] = ("a", "b")) -> Alliance:
    """Found an alliance 700 days ago."""
    return found_alliance(tmp_path, members, clock=FixedClock(SystemClock().now() - AGE))


def renewals_of(folder: Path, db: Database) -> Renewals:
    """Return the service of a coordinator's folder."""
    return Renewals.open(folder, db, Gatekeeper.open(folder, db))


def renewals(alliance: Alliance, db: Database) -> Renewals:
    """Return the service of an alliance's coordinator."""
    return renewals_of(alliance.coordinator_dir, db)


def directly(service: Renewals, member_dir: Path) -> Exchange:
    """Return an exchange that calls the service as the connection of ``member_dir`` would."""

    def exchange(request: RenewalRequest) -> RenewalGrant:
        return service.renew(connection_pair(member_dir).pem, request)

    return exchange
