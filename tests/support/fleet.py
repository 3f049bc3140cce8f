"""A fleet on loopback: a real grpc.aio server, real mutual TLS, nodes that can be cut and killed.

Also :class:`InProcessGrid`, which runs Flower ``ClientApp`` objects in threads without a network.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import shared.fleet.environment  # noqa: F401 - before gRPC and Flower

# isort: split
import grpc
import numpy as np
from alliance.v1 import fleet_pb2 as pb
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
from shared.errors import AuthError, MemberRevoked, TouchstoneError
from shared.fleet.messages import ERROR_HANDLER, decode, encode, error_reply, new_run
from shared.fleet.wire import PROTOCOL, SESSION_BYTES, Timing, channel_options
from shared.trust.authority import Authority, found_authority
from shared.trust.keys import encode_key, new_tls_key
from shared.trust.peer import Peer

T = TypeVar("T")
ClientFunction = Callable[[Message, Context], Message]

FAST = Timing(
    keepalive_s=0.5,
    silence_s=4.0,
    hello_s=10.0,
    stall_s=2.0,
    admit_s=0.1,
    backoff_first_s=0.02,
    backoff_max_s=0.2,
    stop_s=2.0,
)


def content(values: int = 4, note: str = "") -> RecordDict:
    """A record with one float32 vector and one text."""
    vector = np.arange(values, dtype=np.float32)
    return RecordDict({"model": ArrayRecord([vector]), "note": ConfigRecord({"note": note})})


def echo(message: Message) -> Message:
    """Reply with what was sent."""
    return Message(message.content, reply_to=message)


def instruct(
    fleet: Fleet, index: int, values: int = 4, note: str = "", ttl: float = 30.0
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
        self.port = 0
        self.nodes: list[Node] = []
        self.serve()

    def await_(self, coroutine: Coroutine[Any, Any, T], timeout: float = 20.0) -> T:
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
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", self.pki.server)
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
        node.future.result(60)

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
        self._thread.join(5)
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


class RawMember:
    """Speaks the protocol frame by frame, so that a test can break it."""

    def __init__(self, fleet: Fleet, index: int) -> None:
        self._fleet = fleet
        self._index = index
        self.skipped: list[str] = []  # kinds of frames that read() passed over

    async def open(self, holding: Iterable[str]) -> None:
        self._channel = grpc.aio.secure_channel(
            f"localhost:{self._fleet.port}",
            self._fleet.credentials[self._index],
            channel_options(self._fleet.timing),
        )
        self._call = fleet_pb2_grpc.FleetServiceStub(self._channel).Connect()
        hello = pb.Hello(
            protocol=PROTOCOL,
            software="raw",
            node_session=bytes(SESSION_BYTES),
            holding=holding,
        )
        await self._call.write(pb.NodeFrame(hello=hello))
        assert (await self._call.read()).WhichOneof("body") == "welcome"

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()

    def send(self, **body: Any) -> None:
        """Send one frame."""
        self._fleet.await_(self._call.write(pb.NodeFrame(**body)))

    def read(self, kind: str) -> Any:
        """Return the body of the next frame of ``kind``; others are skipped."""
        return self._fleet.await_(self._read(kind))

    async def _read(self, kind: str) -> Any:
        async with asyncio.timeout(10):
            while (frame := await self._call.read()) is not grpc.aio.EOF:
                found = frame.WhichOneof("body")
                if found == kind:
                    return getattr(frame, kind)
                self.skipped.append(found)
        raise AssertionError(f"the stream ended before a frame {kind!r}")

    def instruction(self) -> Message:
        """Receive one instruction and return it, decoded."""
        start = self.read("start")
        data = b""
        while len(data) < start.total_bytes:
            data += self.read("chunk").data
        return decode(data)

    def status(self) -> grpc.StatusCode:
        """Wait for the coordinator to end the call and return the status."""

        async def ended() -> grpc.StatusCode:
            async with asyncio.timeout(10):
                return await self._call.code()

        return self._fleet.await_(ended())


class Proxy:
    """A TCP relay in front of the coordinator that can cut every connection in mid-air."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut_after: int | None = None
        self.cuts = 0
        self.down = 0  # bytes that went to members
        self.port = fleet.await_(self._open())

    async def _open(self) -> int:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_connection("127.0.0.1", self._fleet.port)
        except OSError:
            writer.close()
            return
        pair = {writer, far[1]}
        self._writers |= pair
        up = asyncio.create_task(self._pump(reader, far[1], upwards=True))
        down = asyncio.create_task(self._pump(far[0], writer, upwards=False))
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        for end in pair:
            end.transport.abort()
        self._writers -= pair

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if upwards and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        self.cuts += 1
                        return
                if not upwards:
                    self.down += len(data)
                writer.write(data)
                await writer.drain()

    def cut(self) -> None:
        """Cut whatever is connected now."""
        self._fleet.await_(self._cut())

    async def _cut(self) -> None:
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()


async def _drain() -> None:
    tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def wait_until(true: Callable[[], object], timeout: float = 60.0) -> None:
    """Return as soon as ``true()`` holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class InProcessGrid(AllianceGrid):
    """Flower's grid over ``ClientApp`` objects in this process: real encoding, no network.

    Args:
        apps: node id -> ``ClientApp`` (or any callable of a message and a context).
        node_config: node id -> the ``node_config`` of its context.
        run_id: Flower's id of the run.

    Attributes:
        absent: node ids that are away; messages wait for them, and :meth:`wake` delivers.
        lose_reply: called with an instruction; True drops its reply, as a killed node would.
    """

    def __init__(
        self,
        apps: Mapping[int, ClientFunction],
        *,
        node_config: Mapping[int, dict[str, Any]] | None = None,
        run_id: int = 7,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(Hub(clock=clock), run_id=run_id)
        self.absent: set[int] = set()
        self.lose_reply: Callable[[Message], bool] = lambda _message: False
        self._apps = apps
        self._node_config = node_config or {}
        self._contexts: dict[tuple[int, int], Context] = {}
        self._pools = {index: ThreadPoolExecutor(1) for index in apps}
        self._given: set[str] = set()

    def connected(self) -> frozenset[int]:
        return frozenset(self._apps) - self.absent

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.connected())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = super().push_messages(messages)
        self.wake()
        return keys

    def for_run(self, run_id: int) -> InProcessGrid:
        other = copy.copy(self)
        other.set_run(new_run(run_id))
        return other

    def _context(self, run_id: int, index: int) -> Context:
        config = self._node_config.get(index, {})
        fresh = Context(run_id, index, config, RecordDict(), {})
        return self._contexts.setdefault((run_id, index), fresh)

    def wake(self) -> None:
        """Hand every present node what it has not been given."""
        for index in self.connected():
            for key in self.hub.open_for(index):
                if key not in self._given:
                    self._given.add(key)
                    self._pools[index].submit(self._work, index, key)

    def _work(self, index: int, key: str) -> None:
        instruction = self.hub.instruction(key, index)
        if instruction is None:
            return
        self.hub.delivered(key, index)
        received = decode(instruction.data)
        try:
            reply = self._apps[index](received, self._context(received.metadata.run_id, index))
        except TouchstoneError as error:
            reply = error_reply(received, ERROR_HANDLER, f"{error.code}: {error.message}")
        except Exception as error:  # noqa: BLE001 - as a node does
            reply = error_reply(received, ERROR_HANDLER, f"failed: {type(error).__name__}")
        if not self.lose_reply(received):
            self.hub.answer(key, index, encode(reply))

    def close(self) -> None:
        """Stop the threads."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)
