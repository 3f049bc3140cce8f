"""A node's connection to its coordinator: kept up for ever, through any network trouble.

Instructions are worked on by one thread, in order of arrival; the event loop meanwhile answers
keep-alives and survives reconnects. Only a refusal of this member's identity ends it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

import grpc
from alliance.v1 import fleet_pb2 as pb
from alliance.v1 import fleet_pb2_grpc

from participant.node.inbox import Inbox
from participant.node.session import Call, Session
from participant.node.worker import Handler, Worker
from shared.errors import AuthError, NetworkError, TouchstoneError
from shared.fleet.errors import IdentityInUse
from shared.fleet.grpc_errors import reraised
from shared.fleet.wire import PROTOCOL, SESSION_BYTES, Timing, channel_options
from shared.trust.errors import CoordinatorNotTrusted

_random = secrets.SystemRandom()


class Connection:
    """Connects, works, reconnects.

    Args:
        target: ``host:port`` of the coordinator's mutual-TLS port.
        credentials: this member's certificate and key, and the alliance's CA.
        handler: the installed application; called in one worker thread.
        timing: time limits and pauses.
        software: name and version to tell the coordinator.
        on_state: told ``connected``, ``lost`` or ``stopped``, with a text for people.
        explain: finds out, in a thread, what is behind an error of the first connection.
        newer: asked before every connection for credentials that replace ``credentials``.
    """

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials,
        handler: Handler,
        *,
        timing: Timing | None = None,
        software: str = "touchstone",
        on_state: Callable[[str, str], None] = lambda _state, _text: None,
        explain: Callable[[TouchstoneError], TouchstoneError] = lambda error: error,
        newer: Callable[[], grpc.ChannelCredentials | None] = lambda: None,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._handler = handler
        self._timing = timing or Timing()
        self._software = software
        self._on_state = on_state
        self._explain = explain
        self._newer = newer
        self._inbox = Inbox()
        self._node_session = os.urandom(SESSION_BYTES)
        self._session: Session | None = None
        self._stopping = asyncio.Event()
        self._failures = 0
        self._renewing = False
        self._busy = False
        self._working = False
        self._ever_connected = False

    @property
    def busy(self) -> bool:
        """Whether the worker was left in the middle of an instruction when the node stopped."""
        return self._busy

    def stop(self) -> None:
        """Leave as soon as possible; call it on the event loop."""
        self._stopping.set()
        if self._session is not None:
            self._session.leave()

    def renew(self) -> None:
        """Leave and connect again at once, with newer credentials; call it on the event loop.

        A round that is under way goes on: instructions and replies are held in the meantime.
        """
        if self._session is not None:
            self._renewing = True
            self._session.leave()

    async def run(self) -> None:
        """Stay connected until :meth:`stop`.

        Raises:
            AuthError: the coordinator refuses this member, for example because it was revoked.
            IdentityInUse: another process runs with this member's key.
        """
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(self._handler, self._worked)
        try:
            while not self._stopping.is_set():
                await self._once()
        finally:
            self._busy = not await asyncio.to_thread(self._worker.stop, self._timing.stop_s)
            self._on_state("stopped", "the node has stopped")

    async def _once(self) -> None:
        error = await self._failure()
        if error is None:
            return
        if self._renewing:
            self._renewing = False
            return
        if self._is_final(error):
            raise error
        if not self._stopping.is_set():
            await self._pause(error)

    async def _failure(self) -> TouchstoneError | None:
        """Connect and work; return what ended it, unless it was an orderly end.

        An explanation rests on what anybody in the path could imitate, so it is asked for only
        while this node has never been connected.
        """
        try:
            await self._connect()
        except TouchstoneError as error:
            if self._ever_connected:
                return error
            return await asyncio.to_thread(self._explain, error)
        return None

    def _is_final(self, error: TouchstoneError) -> bool:
        """Return whether trying again is of no use.

        A machine that cannot prove to be the coordinator is a wrong address at first, but later it
        is somebody in the way: whoever can redirect traffic must not stop this node for good.
        """
        if isinstance(error, CoordinatorNotTrusted):
            return not self._ever_connected
        if isinstance(error, AuthError) and self._take_newer():
            return False  # another process of this node has renewed the certificate
        return isinstance(error, AuthError | IdentityInUse)

    def _take_newer(self) -> bool:
        newer = self._newer()
        if newer is None:
            return False
        self._credentials = newer
        return True

    async def _pause(self, error: TouchstoneError) -> None:
        """Wait before the next try: exponential, with full jitter, so that nodes spread out."""
        bound = self._timing.backoff_first_s * 2 ** min(self._failures, 20)
        self._failures += 1
        delay = _random.uniform(0, min(bound, self._timing.backoff_max_s))
        self._on_state("lost", f"{error.message}; trying again in {delay:.1f} s")
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping], timeout=delay)
        stopping.cancel()

    async def _connect(self) -> None:
        options = channel_options(self._timing)
        self._take_newer()
        async with grpc.aio.secure_channel(self._target, self._credentials, options) as channel:
            call = fleet_pb2_grpc.FleetServiceStub(channel).Connect()  # type: ignore[call-arg]
            try:
                with reraised("stay connected to the coordinator"):
                    await self._converse(call)
            finally:
                call.cancel()

    async def _converse(self, call: Call) -> None:
        self._inbox.revoke_grants()
        session = Session(call, self._inbox, self._accept, self._timing)
        hello = pb.Hello(
            protocol=PROTOCOL,
            software=self._software,
            node_session=self._node_session,
            holding=self._inbox.held(),
        )
        welcome = await session.greet(hello)
        self._failures = 0
        self._ever_connected = True
        self._on_state("connected", f"connected as member {welcome.index}")
        self._session = session
        if self._stopping.is_set():
            session.leave()
        try:
            await session.run()
        finally:
            self._session = None
        raise NetworkError("the coordinator closed the connection")

    def _accept(self, key: str, kind: str, data: bytearray) -> None:
        self._inbox.take(key, kind, data)
        self._feed()

    def _feed(self) -> None:
        """Give the worker the next instruction, unless it is at one.

        Those that wait stay in the inbox, so that a withdrawn one leaves nothing behind.
        """
        if not self._working and (job := self._inbox.next()) is not None:
            self._working = True
            self._worker.submit(*job)

    def _worked(self, key: str, outcome: bytes | TouchstoneError) -> None:
        self._loop.call_soon_threadsafe(self._settle, key, outcome)

    def _settle(self, key: str, outcome: bytes | TouchstoneError) -> None:
        """Keep the reply for sending; refuse what was no instruction; go on with the next."""
        self._working = False
        self._feed()
        if isinstance(outcome, bytes):
            self._inbox.answer(key, outcome)
            if self._session is not None:
                self._session.wake()
            return
        self._inbox.forget(key)
        if self._session is not None:
            self._session.nack(key, outcome.code, outcome.message)
