"""Real alliances in a temporary folder: founded, invited and joined by the production code.

``found_alliance`` takes the fast path: the request goes to the service by a function call.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coordinator.db import Database
from coordinator.enrolment.founding import found
from coordinator.enrolment.service import Enrolment, invite
from participant.node.join import Exchange, join
from shared.clock import Clock
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import Invitation


@dataclass(frozen=True)
class Alliance:
    """Folders and ports of one alliance on loopback; indices are 1, 2, … in order of names."""

    name: str
    coordinator_dir: Path
    member_dirs: dict[str, Path]
    host: str
    port: int
    enrolment_port: int

    @property
    def authority(self) -> str:
        """``host:port`` of the mutual-TLS port."""
        return f"{self.host}:{self.port}"

    def database(self, clock: Clock | None = None) -> Database:
        """Open the coordinator's database."""
        return Database.open(self.coordinator_dir, clock=clock)

    def dir_of(self, member_id: str) -> Path:
        """Return a member's folder."""
        return self.member_dirs[member_id]


def free_ports() -> tuple[int, int]:
    """Return two neighbouring TCP ports that were free on loopback a moment ago."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port, port + 1
    raise RuntimeError("no two neighbouring ports are free")


def in_process(service: Enrolment) -> Exchange:
    """Return an exchange that calls the service directly."""

    def exchange(invitation: Invitation, request: EnrolmentRequest) -> EnrolmentGrant:
        return service.enrol(request)

    return exchange


def found_alliance(
    tmp_path: Path,
    members: Iterable[str] = ("a", "b"),
    *,
    name: str = "Test alliance",
    clock: Clock | None = None,
) -> Alliance:
    """Found an alliance below ``tmp_path`` and let ``members`` join, without a network."""
    port, enrolment_port = free_ports()
    coordinator_dir = tmp_path / "coordinator"
    found(coordinator_dir, name=name, host="127.0.0.1", port=port, clock=clock)
    db = Database.open(coordinator_dir, clock=clock)
    member_dirs: dict[str, Path] = {}
    try:
        service = Enrolment.open(coordinator_dir, db)
        for member_id in members:
            member_dirs[member_id] = tmp_path / "members" / member_id
            invitation = invite(coordinator_dir, db, member_id)
            join(member_dirs[member_id], invitation, in_process(service), clock=clock)
    finally:
        db.close()
    return Alliance(name, coordinator_dir, member_dirs, "127.0.0.1", port, enrolment_port)
