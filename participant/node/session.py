"""One connection of a node, from greeting to loss.

Mirrors the coordinator's stream: a reader, a writer and a watcher, of which only the writer writes.
All state that must outlive the connection is in the inbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from alliance.v1 import fleet_pb2 as pb

from participant.node.inbox import Held, Inbox
from shared.errors import NetworkError, TouchstoneError
from shared.fleet.chunks import Assembly, opening, pieces
from shared.fleet.errors import DigestMismatch, IdentityInUse
from shared.fleet.wire import PROTOCOL, Stream, Timing, next_frame
from shared.limits import MAX_INSTRUCTION_BYTES, MAX_QUEUED_FRAMES

Frame = pb.NodeFrame
Call = Stream[pb.CoordinatorFrame, pb.NodeFrame]


class Accepts(Protocol):
    """Where complete instructions go."""

    def __call__(self, key: str, kind: str, data: bytearray) -> None:
        """Take a new instruction; returns at once."""


class Session:
    """Frames of one call, to and from the inbox."""

    def __init__(self, call: Call, inbox: Inbox, accept: Accepts, timing: Timing) -> None:
        self._call = call
        self._inbox = inbox
        self._accept = accept
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._control: deque[pb.NodeFrame] = deque()
        self._announced: set[str] = set()  # replies sent or announced on this connection
        self._assembly: Assembly | None = None
        self._heard = self._pinged = self._loop.time()
        self._leaving = False

    async def greet(self, hello: pb.Hello) -> pb.Welcome:
        """Introduce this node and return what the coordinator says.

        Raises:
            NetworkError: no answer, or one that is not a welcome.
            TouchstoneError: the coordinator speaks another version of the protocol.
        """
        await self._call.write(Frame(hello=hello))
        try:
            async with asyncio.timeout(self._timing.hello_s):
                frame = await next_frame(self._call)
        except TimeoutError as error:
            raise NetworkError("the coordinator does not answer") from error
        if frame is None or frame.WhichOneof("body") != "welcome":
            raise NetworkError("the coordinator closed the connection before its greeting")
        if frame.welcome.protocol != PROTOCOL:
            raise TouchstoneError(
                f"the coordinator speaks protocol {frame.welcome.protocol}, not {PROTOCOL}",
                hint="install the same release on both sides",
            )
        self._heard = self._loop.time()
        return frame.welcome

    async def run(self) -> None:
        """Serve the connection until it is lost, or :meth:`leave` was called.

        Raises:
            IdentityInUse: another process has taken this member's place.
            NetworkError: the coordinator went silent or said goodbye.
        """
        jobs = [self._read(), self._write(), self._watch()]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def wake(self) -> None:
        """A reply has been computed."""
        self._wakeup.set()

    def leave(self) -> None:
        """Say goodbye and end the session."""
        self._leaving = True
        self._wakeup.set()

    def nack(self, key: str, code: str, text: str, *, retry: bool = False) -> None:
        """Turn an instruction down."""
        self._queue(Frame(nack=pb.Nack(message_id=key, code=code, text=text, retry=retry)))

    def _queue(self, frame: pb.NodeFrame) -> None:
        self._control.append(frame)
        self._wakeup.set()

    async def _read(self) -> None:
        on: dict[str, Callable[[pb.CoordinatorFrame], None]] = {
            "start": lambda f: self._on_start(f.start),
            "chunk": lambda f: self._on_chunk(f.chunk),
            "grant": lambda f: self._on_grant(f.grant.reply_to),
            "ack": lambda f: self._inbox.finish(f.ack.message_id),
            "nack": lambda f: self._on_nack(f.nack),
            "withdraw": lambda f: self._inbox.finish(f.withdraw.message_id),
            "ping": lambda f: self._queue(Frame(pong=pb.Pong(nonce=f.ping.nonce))),
            "pong": lambda _: None,
            "goodbye": lambda f: _farewell(f.goodbye),
        }
        while (frame := await next_frame(self._call)) is not None:
            self._heard = self._loop.time()
            handle = on.get(frame.WhichOneof("body") or "")
            if handle is None:
                raise NetworkError("the coordinator sent a frame this release does not know")
            if len(self._control) > MAX_QUEUED_FRAMES:
                raise NetworkError("the coordinator sends frames but reads none")
            handle(frame)

    def _on_grant(self, key: str) -> None:
        self._inbox.grant(key)
        self._announced.discard(key)
        self._wakeup.set()

    def _on_nack(self, nack: pb.Nack) -> None:
        """Send a reply again, or drop one that nobody wants."""
        if nack.retry:
            self._announced.discard(nack.message_id)
            self._inbox.ungrant(nack.message_id)
            self._wakeup.set()
        else:
            self._inbox.finish(nack.message_id)

    def _on_start(self, start: pb.MessageStart) -> None:
        self._assembly = None
        key = start.message_id
        if key in self._inbox:
            self._queue(Frame(ack=pb.Ack(message_id=key)))
        elif self._inbox.is_done(key):
            self.nack(key, "already_answered", "this instruction was answered before")
        else:
            self._begin(key, start)

    def _begin(self, key: str, start: pb.MessageStart) -> None:
        try:
            assembly = Assembly(start, MAX_INSTRUCTION_BYTES)
        except TouchstoneError as error:
            self.nack(key, error.code, error.message)
            return
        if self._inbox.has_room(start.total_bytes):
            self._assembly = assembly
        else:
            self.nack(key, "busy", "too many instructions are waiting here")

    def _on_chunk(self, chunk: pb.Chunk) -> None:
        assembly = self._assembly
        if assembly is None:
            return
        start = assembly.start
        try:
            assembly.add(chunk)
            if not assembly.complete:
                return
            data = assembly.finish()
        except TouchstoneError as error:
            self.nack(
                start.message_id, error.code, error.message, retry=isinstance(error, DigestMismatch)
            )
        else:
            self._queue(Frame(ack=pb.Ack(message_id=start.message_id)))
            self._accept(start.message_id, start.type, data)
        self._assembly = None

    async def _write(self) -> None:
        while True:
            self._wakeup.clear()
            await self._flush()
            if self._leaving:
                await self._put(Frame(goodbye=pb.Goodbye(code="stopping", text="the node stops")))
                return
            todo = [(k, h) for k, h in self._inbox.ready() if k not in self._announced]
            if not todo:
                await self._wakeup.wait()
            for key, held in todo:
                if key in self._inbox:
                    self._announced.add(key)
                    await self._reply(key, held)

    async def _reply(self, key: str, held: Held) -> None:
        data = held.reply or b""
        if held.needs_grant:
            await self._put(Frame(intent=pb.Intent(reply_to=key, total_bytes=len(data))))
            return
        await self._put(Frame(start=opening(data, reply_to=key, kind=held.kind)))
        for piece in pieces(data):
            if key not in self._inbox or key not in self._announced:
                return  # turned down or withdrawn meanwhile
            await self._put(Frame(chunk=piece))
            await self._flush()

    async def _flush(self) -> None:
        while self._control:
            await self._put(self._control.popleft())

    async def _put(self, frame: pb.NodeFrame) -> None:
        try:
            async with asyncio.timeout(self._timing.stall_s):
                await self._call.write(frame)
        except TimeoutError as error:
            raise NetworkError("the coordinator takes in nothing") from error
        except asyncio.InvalidStateError as error:  # gRPC: the call is over
            raise NetworkError("the connection was closed") from error

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._timing.keepalive_s / 2)
            now = self._loop.time()
            if now - self._heard > self._timing.silence_s:
                raise NetworkError("the coordinator has gone silent")
            if now - max(self._heard, self._pinged) > self._timing.keepalive_s:
                self._pinged = now
                self._queue(Frame(ping=pb.Ping(nonce=int(now))))


def _farewell(goodbye: pb.Goodbye) -> None:
    if goodbye.code == "replaced":
        raise IdentityInUse(
            "another node has connected as this member",
            hint="run one node a member; if it was not yours, have the member revoked",
        )
    raise NetworkError(f"the coordinator closed the connection: {goodbye.text}")
