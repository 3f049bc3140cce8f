"""Real alliances in a temporary folder: founded, invited and joined by the production code.

``found_alliance`` takes the fast path: the request goes to the service by a function call, or
with ``network=True`` through the enrolment port. ``serving`` opens both ports for real, with a
service behind mutual TLS that tells callers who they are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from coordinator.db import Database
from coordinator.enrolment import membership
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.founding import found
from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.service import invite
from coordinator.enrolment.servicer import enrolment_server
from coordinator.enrolment.tls import mtls_server_credentials
from participant.node.enrolment_client import exchange_over_grpc
from participant.node.join import Exchange, join
from participant.node.keystore import channel_credentials
from shared.clock import Clock
from shared.fleet.grpc_errors import reraised, typed_errors
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import Invitation
from shared.trust.peer import peer_pem
from tests.support.ports import free_ports
from tests.support.waiting import PATIENCE_S

WHOAMI = "/touchstone.test.Gate/Whoami"


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
    network: bool = False,
) -> Alliance:
    """Found an alliance below ``tmp_path`` and let ``members`` join."""
    port, enrolment_port = free_ports()
    coordinator_dir = tmp_path / "coordinator"
    found(coordinator_dir, name=name, host="127.0.0.1", port=port, clock=clock)
    names = list(members)
    member_dirs = {member_id: tmp_path / "members" / member_id for member_id in names}
    alliance = Alliance(name, coordinator_dir, member_dirs, "127.0.0.1", port, enrolment_port)
    if network:
        with serving(alliance, clock=clock):
            _join_all(alliance, exchange_over_grpc, clock)
    else:
        _join_all(alliance, None, clock)
    return alliance


def _join_all(alliance: Alliance, exchange: Exchange | None, clock: Clock | None) -> None:
    db = alliance.database(clock)
    try:
        way = exchange or in_process(Enrolment.open(alliance.coordinator_dir, db))
        for member_id, folder in alliance.member_dirs.items():
            join(folder, invite(alliance.coordinator_dir, db, member_id), way, clock=clock)
    finally:
        db.close()


class _Gate:
    """One unary method behind the gatekeeper: answers with the caller's member id and index."""

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper

    async def whoami(self, _request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        async with typed_errors(context):
            peer = self._gatekeeper.admit(peer_pem(context.auth_context()))
        return f"{peer.member_id}:{peer.index}".encode()

    def handler(self) -> grpc.GenericRpcHandler:
        service, method = WHOAMI.strip("/").split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(self.whoami)}
        return grpc.method_handlers_generic_handler(service, handlers)


@contextmanager
def serving(alliance: Alliance, *, clock: Clock | None = None) -> Iterator[Database]:
    """Serve both ports of an alliance from a thread; yields the coordinator's database."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    db = alliance.database(clock)
    servers = asyncio.run_coroutine_threadsafe(_start(alliance, db), loop).result(PATIENCE_S)
    try:
        yield db
    finally:
        asyncio.run_coroutine_threadsafe(_stop(servers), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
        db.close()


async def _start(alliance: Alliance, db: Database) -> list[grpc.aio.Server]:
    folder = alliance.coordinator_dir
    enrolment = enrolment_server(folder, db, bind="127.0.0.1", port=alliance.enrolment_port)
    members = grpc.aio.server()
    gatekeeper = Gatekeeper.open(folder, db)
    members.add_generic_rpc_handlers((_Gate(gatekeeper).handler(),))
    membership.add(members, database=db, directory=folder, gatekeeper=gatekeeper)
    # Every loopback address, so that a test can come by one the certificate does not name.
    members.add_secure_port(f"0.0.0.0:{alliance.port}", mtls_server_credentials(folder))
    for server in (enrolment, members):
        await server.start()
    return [enrolment, members]


async def _stop(servers: list[grpc.aio.Server]) -> None:
    for server in servers:
        await server.stop(grace=0)


def whoami(member_dir: Path, authority: str) -> str:
    """Ask the gate who a member is, over mutual TLS with the credentials of its folder."""
    return whoami_with(channel_credentials(member_dir), authority)


def whoami_with(credentials: grpc.ChannelCredentials, authority: str) -> str:
    """Ask the gate who the holder of ``credentials`` is."""
    with grpc.secure_channel(authority, credentials) as channel, reraised("ask the gate"):
        answer: bytes = channel.unary_unary(WHOAMI)(b"", timeout=PATIENCE_S)
    return answer.decode()
