"""The gRPC face of the fleet: authenticates a member, greets it, and serves its stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import grpc
import structlog
from alliance.v1 import fleet_pb2 as pb
from alliance.v1 import fleet_pb2_grpc

from coordinator.fleet.hub import Hub
from coordinator.fleet.stream import MemberStream
from coordinator.fleet.turnstile import Turnstile
from shared.errors import MalformedMessage, TimedOut
from shared.fleet.grpc_errors import typed_errors
from shared.fleet.wire import PROTOCOL, SESSION_BYTES, Stream, Timing, next_frame
from shared.limits import (
    CHUNK_BYTES,
    GRANT_BYTES,
    MAX_DOWNLOADS,
    MAX_HELD_MESSAGES,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_ID_CHARS,
)
from shared.trust.peer import Peer, peer_pem

Context = grpc.aio.ServicerContext[pb.NodeFrame, pb.CoordinatorFrame]

_log = structlog.get_logger("fleet")


class Admits(Protocol):
    """Decides who may connect."""

    def admit(self, pem: bytes) -> Peer:
        """Return the member a certificate names; raise an ``AuthError`` for anybody else."""
        ...


class FleetServicer(fleet_pb2_grpc.FleetServiceServicer):
    """One instance serves every member; it must be made on the server's event loop.

    Args:
        hub: where streams and the application's threads meet.
        gatekeeper: decides who may connect, and again while connected.
        timing: time limits of a stream.
        seen: called with a member's index, in a worker thread, when it comes and when it goes.
    """

    def __init__(
        self,
        hub: Hub,
        gatekeeper: Admits,
        *,
        timing: Timing | None = None,
        seen: Callable[[int], None] = lambda _index: None,
    ) -> None:
        self._hub = hub
        self._gatekeeper = gatekeeper
        self._timing = timing or Timing()
        self._seen = seen
        self._downloads = asyncio.Semaphore(MAX_DOWNLOADS)
        self._session = os.urandom(SESSION_BYTES)
        self._turnstile = Turnstile()

    async def Connect(  # type: ignore[override] # noqa: N802 - the generated base is for both APIs
        self,
        request_iterator: AsyncIterator[pb.NodeFrame],  # noqa: ARG002 - read through the context
        context: Context,
    ) -> None:
        """Serve one member's stream until either side ends it."""
        async with typed_errors(context):
            try:
                await self._serve(context)
            except TimeoutError as error:
                raise TimedOut("the member takes in nothing") from error

    async def _serve(self, context: Context) -> None:
        pem = peer_pem(context.auth_context())
        peer = await asyncio.to_thread(self._gatekeeper.admit, pem)
        with self._turnstile.enter(peer.index):
            await self._serve_member(context, pem, peer)

    async def _serve_member(self, context: Context, pem: bytes, peer: Peer) -> None:
        hello = await self._greeting(context)

        async def check() -> None:
            await asyncio.to_thread(self._gatekeeper.admit, pem)

        stream = MemberStream(
            self._hub,
            peer.index,
            context,
            holding=frozenset(hello.holding),
            timing=self._timing,
            downloads=self._downloads,
            check=check,
        )
        # Attached before it is welcomed: a member that knows it is connected is connected.
        self._hub.attach(peer.index, stream)
        _log.info("member connected", member=peer.member_id, software=hello.software)
        try:
            await context.write(pb.CoordinatorFrame(welcome=self._welcome(peer)))
            await asyncio.to_thread(self._seen, peer.index)
            await stream.run()
        finally:
            self._hub.detach(peer.index, stream)
            _log.info("member left", member=peer.member_id)
            await asyncio.to_thread(self._seen, peer.index)

    async def _greeting(self, context: Context) -> pb.Hello:
        async with asyncio.timeout(self._timing.hello_s):
            frames: Stream[pb.NodeFrame, pb.CoordinatorFrame] = context
            frame = await next_frame(frames)
        if frame is None or frame.WhichOneof("body") != "hello":
            raise MalformedMessage("a stream must begin with a greeting")
        check_hello(frame.hello)
        return frame.hello

    def _welcome(self, peer: Peer) -> pb.Welcome:
        return pb.Welcome(
            protocol=PROTOCOL,
            index=peer.index,
            keepalive_ms=int(self._timing.keepalive_s * 1000),
            chunk_bytes=CHUNK_BYTES,
            max_message_bytes=MAX_MESSAGE_BYTES,
            grant_bytes=GRANT_BYTES,
            coordinator_session=self._session,
        )


def check_hello(hello: pb.Hello) -> None:
    """Refuse a greeting that this coordinator cannot honour.

    Raises:
        MalformedMessage: another protocol version, or a field beyond its limit.
    """
    if hello.protocol != PROTOCOL:
        raise MalformedMessage(
            f"the member speaks protocol {hello.protocol}, the coordinator {PROTOCOL}",
            hint="install the same release on both sides",
        )
    if len(hello.node_session) != SESSION_BYTES or len(hello.software) > MAX_MESSAGE_ID_CHARS:
        raise MalformedMessage("the greeting is not well formed")
    if len(hello.holding) > MAX_HELD_MESSAGES or any(
        len(key) > MAX_MESSAGE_ID_CHARS for key in hello.holding
    ):
        raise MalformedMessage("the greeting names too many messages")
