"""A fleet on loopback: a real grpc.aio server, mutual TLS, nodes that can be cut and killed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import shared.fleet.environment  # noqa: F401 - before gRPC and Flower

# isort: split
import grpc
import numpy as np
from alliance.v1 import fleet_pb2_grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from coordinator.fleet.grid import AllianceGrid
from coordinator.fleet.hub import Hub
from coordinator.fleet.servicer import FleetServicer
from participant.node.connection import Connection
from participant.node.worker import Handler
from shared.clock import Clock, SystemClock
from shared.errors import AuthError, MemberRevoked
from shared.fleet.wire import Timing, channel_options
from shared.trust.authority import Authority, found_authority
from shared.trust.keys import encode_key, new_tls_key
from shared.trust.peer import Peer
from tests.support.fleet_lines import RawMember
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, wait_until

T = TypeVar("T")
ClientFunction = Callable[[Message, Context], Message]

FAST = Timing(
    silence_s=PATIENCE_S,
    hello_s=PATIENCE_S,
    stall_s=PATIENCE_S,
    admit_s=0.1,
    backoff_first_s=0.02,
    backoff_max_s=0.2,
    stop_s=2.0,
)
"""Short where it makes a test wait, long where a busy machine would lose a stream."""


def content(values: int = 4, note: str = "") -> RecordDict:
    """A record with one float32 vector and one text."""
    vector = np.arange(values, dtype=np.float32)
    return RecordDict({"model": ArrayRecord([vector]), "note": ConfigRecord({"note": note})})


def echo(message: Message) -> Message:
    """Reply with what was sent."""
    return Message(message.content, reply_to=message)


def instruct(
    fleet: Fleet, index: int, values: int = 4, note: str = "", ttl: float = 600.0
) -> Message:
    """An instruction to a member with a vector of so many float32 values."""
    return fleet.grid.create_message(content(values, note), "train.step", index, "1", ttl)


@dataclass
class Doorman:
    """Stands in for the gatekeeper: knows every certificate by its exact bytes."""

    known: dict[bytes, Peer] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)

    def admit(self, pem: bytes) -> Peer:
        try:
            peer = self.known[x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)]
        except KeyError:
            raise AuthError("unknown certificate") from None
        if peer.index in self.revoked:
            raise MemberRevoked(f"{peer.member_id} has been revoked")
        return peer


class Pki:
    """An alliance's certificates, in memory."""

    def __init__(self) -> None:
        now = SystemClock().now()
        key = new_tls_key()
        self.authority = Authority(key, found_authority(key, "test", now))
        self.ca_pem = self.authority.certificate.public_bytes(Encoding.PEM)
        server_key = new_tls_key()
        server = self.authority.issue_server(server_key.public_key(), "localhost", now)
        self.server = grpc.ssl_server_credentials(
            [(encode_key(server_key), server.public_bytes(Encoding.PEM))],
            root_certificates=self.ca_pem,
            require_client_auth=True,
        )

    def member(
        self, index: int, trusts: bytes | None = None
    ) -> tuple[grpc.ChannelCredentials, bytes]:
        """Return a new member's channel credentials and its certificate in DER.

        Args:
            index: roster index.
            trusts: authority the member expects of the server, in PEM; its own by default.
        """
        key = new_tls_key()
        certificate = self.authority.issue_member_tls(
            key.public_key(), f"member-{index}", "ab" * 16, index, SystemClock().now()
        )
        pem = certificate.public_bytes(Encoding.PEM)
        credentials = grpc.ssl_channel_credentials(trusts or self.ca_pem, encode_key(key), pem)
        return credentials, certificate.public_bytes(Encoding.DER)


@dataclass
class Node:
    """A member's node on the fleet's event loop."""

    connection: Connection
    future: Future[None]
    states: list[tuple[str, str]]


class Fleet:
    """A coordinator and its members, on one event loop in a background thread."""

    def __init__(
        self,
        members: int,
        *,
        timing: Timing = FAST,
        clock: Clock | None = None,
        max_uploads: int = 4,
    ) -> None:
        self.timing = timing
        self.pki = Pki()
        self.doorman = Doorman()
        self.audit: list[tuple[str, dict[str, Any]]] = []
        self.clock = clock
        self.max_uploads = max_uploads
        self.credentials: dict[int, grpc.ChannelCredentials] = {}
        for index in range(1, members + 1):
            self.credentials[index], der = self.pki.member(index)
            self.doorman.known[der] = Peer(index, f"member-{index}", "")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.port = free_port()
        self.nodes: list[Node] = []
        self.serve()

    def await_(self, coroutine: Coroutine[Any, Any, T], timeout: float = PATIENCE_S) -> T:
        """Run a coroutine on the fleet's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    # -- the coordinator --------------------------------------------------------------------

    def serve(self) -> None:
        """Start a coordinator with an empty memory, on the port of the last one."""
        self.hub = Hub(
            clock=self.clock,
            max_uploads=self.max_uploads,
            audit=lambda kind, body: self.audit.append((kind, body)),
        )
        self.grid = AllianceGrid(self.hub, run_id=7)
        self.await_(self._serve())

    async def _serve(self) -> None:
        self.server = grpc.aio.server(options=channel_options(self.timing))
        servicer = FleetServicer(self.hub, self.doorman, timing=self.timing)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(servicer, self.server)
        self.server.add_secure_port(f"127.0.0.1:{self.port}", self.pki.server)
        await self.server.start()

    def stop_serving(self, grace: float | None = None) -> None:
        """Stop the coordinator: at once, or with a grace period."""
        self.await_(self.server.stop(grace))

    # -- the members ------------------------------------------------------------------------

    def node(self, index: int, handler: Handler = echo, **options: Any) -> Node:
        """Start a member's node."""
        return self.await_(self._node(index, handler, options))

    async def _node(self, index: int, handler: Handler, options: dict[str, Any]) -> Node:
        states: list[tuple[str, str]] = []
        connection = Connection(
            f"localhost:{options.pop('port', self.port)}",
            self.credentials[index],
            handler,
            timing=self.timing,
            on_state=lambda *state: states.append(state),
            **options,
        )
        node = Node(
            connection, asyncio.run_coroutine_threadsafe(connection.run(), self.loop), states
        )
        self.nodes.append(node)
        return node

    def kill(self, node: Node) -> None:
        """End a node without a goodbye, as ``kill -9`` would; its memory is gone."""
        node.future.cancel()
        wait_until(node.future.done)

    def stop(self, node: Node) -> None:
        """End a node the polite way."""
        self.loop.call_soon_threadsafe(node.connection.stop)
        node.future.result(PATIENCE_S)

    def wait_connected(self, *indices: int) -> None:
        """Wait until exactly these members are connected."""
        wait_until(lambda: self.grid.connected() == set(indices))

    def close(self) -> None:
        """Stop everything."""
        for node in self.nodes:
            if not node.future.done():
                self.kill(node)
        with suppress(AssertionError):  # let the streams end by themselves, if there are any
            wait_until(lambda: not self.grid.connected(), 1.0)
        self.stop_serving()
        self.await_(_drain())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()

    # -- a member that does not keep to the rules ---------------------------------------------

    @contextmanager
    def raw(self, index: int, holding: Iterable[str] = ()) -> Iterator[RawMember]:
        """Connect as a member by hand, frame by frame."""
        member = RawMember(self, index)
        self.await_(member.open(holding))
        try:
            yield member
        finally:
            self.await_(member.close())


async def _drain() -> None:
    tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
