"""The coordinator's one long-lived process.

Members' port P (mutual TLS): fleet and registry. Port P+1 (server TLS only): enrolment. The runs
themselves are the supervisor's, in threads of their own; this event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog
from alliance.v1 import fleet_pb2_grpc

from coordinator.config import CoordinatorConfig
from coordinator.db import Database
from coordinator.db.records import Alliance
from coordinator.enrolment import membership
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.files import load_ca
from coordinator.enrolment.server_certificate import (
    keep_server_certificate,
    renew_server_if_due,
)
from coordinator.enrolment.servicer import enrolment_server
from coordinator.enrolment.tls import mtls_server_credentials
from coordinator.fleet.grid import AllianceGrid
from coordinator.fleet.hub import AuditHook, Hub
from coordinator.fleet.servicer import FleetServicer
from coordinator.registry import servicer as registry
from shared.errors import NetworkError, TouchstoneError
from shared.fleet.wire import Timing, channel_options
from shared.limits import MAX_MEMBER_CALLS
from shared.locks import process_lock
from shared.logs import log_to
from shared.memory import return_large_blocks
from shared.signals import on_stop_signal
from shared.trust.names import authority_of

LOCK_FILE = "serve.lock"
LOG_FILE = "coordinator.log"

STOP_GRACE_S = 2.0
"""For members to hear the goodbye and for open calls to finish."""

TICK_S = 1.0

_log = structlog.get_logger("serving")


class Supervises(Protocol):
    """Runs the alliance's training runs in threads of its own."""

    def start(self) -> None:
        """Resume what a previous process left, then wait for runs to start."""

    def stop(self) -> None:
        """Stop at the next safe point and return when every thread has ended."""


MakeSupervisor = Callable[[Path, Database, AllianceGrid], Supervises]


async def serve(
    state_dir: Path,
    make_supervisor: MakeSupervisor,
    *,
    timing: Timing | None = None,
    ready: Callable[[str], None] = lambda _text: None,
) -> None:
    """Serve an alliance until SIGTERM or SIGINT.

    Args:
        state_dir: the coordinator's state folder.
        make_supervisor: builds what runs the runs.
        timing: time limits of the members' streams.
        ready: told one line for people once both ports are open.

    Raises:
        AlreadyRunning: another process serves this folder.
        NotFound: no alliance was founded here.
        NetworkError: a port is in use or cannot be bound.
    """
    return_large_blocks()
    load_ca(state_dir)  # leaves no lock or log in a folder that is not a coordinator's
    with process_lock(state_dir / LOCK_FILE, "a coordinator"):
        log_to(state_dir / LOG_FILE)
        db = Database.open(state_dir)
        try:
            await _serve(state_dir, db, make_supervisor, timing or Timing(), ready)
        finally:
            db.close()


async def _serve(
    state_dir: Path,
    db: Database,
    make_supervisor: MakeSupervisor,
    timing: Timing,
    ready: Callable[[str], None],
) -> None:
    alliance = db.read("alliance", lambda unit: unit.alliance.get())
    with ThreadPoolExecutor(1, thread_name_prefix="audit") as writer:
        hub = Hub(audit=auditor(db, writer))
        stop = asyncio.Event()
        on_stop_signal(stop.set)
        async with _listening(state_dir, db, alliance, hub, timing):
            supervisor = make_supervisor(state_dir, db, AllianceGrid(hub))
            await asyncio.to_thread(supervisor.start)
            ready(
                f"serving {alliance.name!r} on {authority_of(alliance.host, alliance.port)}, "
                f"enrolment on port {alliance.enrolment_port}"
            )
            _log.info("ready", port=alliance.port, enrolment_port=alliance.enrolment_port)
            await _until(stop, hub)
            _log.info("stopping")
            await asyncio.to_thread(supervisor.stop)
            hub.close_all("shutdown", "the coordinator is shutting down")


@asynccontextmanager
async def _listening(
    state_dir: Path, db: Database, alliance: Alliance, hub: Hub, timing: Timing
) -> AsyncIterator[None]:
    bind = CoordinatorConfig.load(state_dir).server.bind
    members = grpc.aio.server(
        options=channel_options(timing), maximum_concurrent_rpcs=MAX_MEMBER_CALLS
    )
    gatekeeper = Gatekeeper.open(state_dir, db)
    fleet = FleetServicer(hub, gatekeeper, timing=timing, seen=_seen(db))
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(fleet, members)
    registry.add(members, database=db, directory=state_dir, gatekeeper=gatekeeper)
    membership.add(members, database=db, directory=state_dir, gatekeeper=gatekeeper)
    if renew_server_if_due(state_dir, db):
        _log.info("server certificate renewed")
    listen(members, bind, alliance.port, mtls_server_credentials(state_dir))
    strangers = enrolment_server(state_dir, db, bind=bind, port=alliance.enrolment_port)
    upkeep = asyncio.create_task(keep_server_certificate(state_dir, db))
    try:
        await members.start()
        await strangers.start()
        yield
    finally:
        upkeep.cancel()
        await asyncio.gather(members.stop(STOP_GRACE_S), strangers.stop(STOP_GRACE_S))


def listen(
    server: grpc.aio.Server, bind: str, port: int, credentials: grpc.ServerCredentials
) -> None:
    """Open a TLS port.

    Raises:
        NetworkError: it is in use, or the address is not this machine's.
    """
    try:
        bound = server.add_secure_port(authority_of(bind, port), credentials)
    except RuntimeError as error:
        raise _unbound(bind, port, str(error)) from error
    if bound != port:
        raise _unbound(bind, port, "")


def _unbound(bind: str, port: int, detail: str) -> NetworkError:
    return NetworkError(
        f"cannot listen on {authority_of(bind, port)}: the port is in use or not allowed",
        hint="stop what uses it, or set bind in coordinator.toml",
        detail=detail,
    )


async def _until(stop: asyncio.Event, hub: Hub) -> None:
    while not stop.is_set():
        hub.tick()
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await stop.wait()


def auditor(db: Database, writer: ThreadPoolExecutor) -> AuditHook:
    """Return a hook that writes audit events without making the event loop wait for the disk."""

    def write(kind: str, body: dict[str, Any]) -> None:
        try:
            db.write("audit", lambda unit: unit.audit.append(kind, body))
        except TouchstoneError:  # a failed entry must not take the service down
            _log.exception("audit event not written", kind=kind)

    def audit(kind: str, body: dict[str, Any]) -> None:
        _log.warning(kind, **body)
        writer.submit(write, kind, body)

    return audit


def _seen(db: Database) -> Callable[[int], None]:
    def seen(index: int) -> None:
        db.write("seen", lambda unit: unit.members.seen(index, db.clock.now()))

    return seen
