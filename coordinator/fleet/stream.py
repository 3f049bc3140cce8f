"""One member's live stream: reads its frames, writes ours, and knows when to give up.

Three tasks share a stream: a reader, a writer and a watcher. The writer alone writes. Control
frames (grants, acknowledgements, pings) go out between the chunks of a large message, so a slow
download never holds up an upload.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from alliance.v1 import fleet_pb2 as pb

from coordinator.fleet.hub import Hub
from coordinator.fleet.uploads import Uploads
from shared.errors import MalformedMessage
from shared.fleet.errors import MessageTooLarge
from shared.fleet.wire import Stream, Timing, next_frame
from shared.limits import MAX_QUEUED_FRAMES, MAX_SEND_ATTEMPTS, MIN_TRANSFER_BYTES_S

Frame = pb.CoordinatorFrame
Frames = Stream[pb.NodeFrame, pb.CoordinatorFrame]


class MemberStream:
    """Implements :class:`coordinator.fleet.hub.Link` for one gRPC call.

    Args:
        hub: where the application's instructions and the member's replies meet.
        index: the member, as its certificate says.
        context: the gRPC call, after Hello and Welcome.
        holding: ids of instructions that the member said it has.
        timing: time limits.
        downloads: bounds the messages that are being sent at once by this process.
        check: raises when the member is no longer admitted; awaited every ``timing.admit_s``.
    """

    def __init__(
        self,
        hub: Hub,
        index: int,
        context: Frames,
        *,
        holding: frozenset[str],
        timing: Timing,
        downloads: asyncio.Semaphore,
        check: Callable[[], Awaitable[Any]],
    ) -> None:
        self._hub = hub
        self._index = index
        self._context = context
        self._timing = timing
        self._downloads = downloads
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._control: deque[pb.CoordinatorFrame] = deque()
        self._sent = set(holding)
        self._attempts: dict[str, int] = {}
        self._goodbye: pb.Goodbye | None = None
        self._heard = self._pinged = self._loop.time()
        self._uploads = Uploads(hub, index, self._queue, self._loop.time, timing.stall_s)

    # -- Link: any thread -------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the mailbox again."""
        self._soon(self._wakeup.set)

    def granted(self, key: str) -> None:
        """Tell the member that it may upload its reply to ``key``."""
        self._soon(self._uploads.granted, key)

    def withdrawn(self, key: str) -> None:
        """Tell the member that nobody waits for its reply to ``key``."""
        self._soon(self._uploads.forget, key)
        self._soon(self._queue, Frame(withdraw=pb.Withdraw(message_id=key)))

    def close(self, code: str, text: str) -> None:
        """Say goodbye and end the stream."""
        self._soon(self._leave, code, text)

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    # -- event loop -------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the stream until either side ends it.

        Raises:
            TouchstoneError: the member broke the rules or is no longer admitted.
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

    def _queue(self, frame: pb.CoordinatorFrame) -> None:
        self._control.append(frame)
        self._wakeup.set()

    def _leave(self, code: str, text: str) -> None:
        self._goodbye = pb.Goodbye(code=code, text=text)
        self._wakeup.set()

    async def _read(self) -> None:
        while (frame := await next_frame(self._context)) is not None:
            self._heard = self._loop.time()
            kind = frame.WhichOneof("body")
            if kind == "goodbye":
                return
            self._receive(kind, frame)

    def _receive(self, kind: str | None, frame: pb.NodeFrame) -> None:
        if len(self._control) > MAX_QUEUED_FRAMES:
            raise MalformedMessage("the member sends frames but reads none")
        if kind == "intent":
            self._uploads.intent(frame.intent)
        elif kind == "start":
            self._uploads.start(frame.start)
        elif kind == "chunk":
            self._uploads.chunk(frame.chunk)
        elif kind == "ack":
            self._hub.delivered(frame.ack.message_id, self._index)
        elif kind == "nack":
            self._refused(frame.nack)
        elif kind == "ping":
            self._queue(Frame(pong=pb.Pong(nonce=frame.ping.nonce)))
        elif kind != "pong":
            raise MalformedMessage("an unexpected frame arrived on the stream")

    def _refused(self, nack: pb.Nack) -> None:
        key = nack.message_id
        if self._hub.instruction(key, self._index) is None:
            return
        tries = self._attempts[key] = self._attempts.get(key, 0) + 1
        if nack.retry and tries < MAX_SEND_ATTEMPTS:
            self._sent.discard(key)
            self._wakeup.set()
        else:
            self._hub.refuse(key, self._index, f"the member did not accept it: {nack.code[:64]}")

    async def _write(self) -> None:
        while True:
            self._wakeup.clear()
            await self._flush()
            if self._goodbye is not None:
                await self._put(Frame(goodbye=self._goodbye))
                return
            unsent = (k for k in self._hub.open_for(self._index) if k not in self._sent)
            key = next(unsent, None)
            if key is None:
                await self._wakeup.wait()
            else:
                self._sent.add(key)
                await self._send(key)

    async def _flush(self) -> None:
        while self._control:
            await self._put(self._control.popleft())

    async def _put(self, frame: pb.CoordinatorFrame) -> None:
        async with asyncio.timeout(self._timing.stall_s):
            await self._context.write(frame)

    async def _send(self, key: str) -> None:
        message = self._hub.instruction(key, self._index)
        if message is None:
            return
        async with self._downloads:
            try:
                start = message.start()
            except MessageTooLarge as error:
                self._hub.refuse(key, self._index, error.message)
                return
            slowest = self._timing.stall_s + message.size / MIN_TRANSFER_BYTES_S
            async with asyncio.timeout(slowest):
                await self._put(Frame(start=start))
                for piece in message.pieces():
                    await self._put(Frame(chunk=piece))
                    await self._flush()

    async def _watch(self) -> None:
        pause = min(self._timing.admit_s, self._timing.keepalive_s / 2)
        while True:
            await asyncio.sleep(pause)
            now = self._loop.time()
            if now - self._heard > self._timing.silence_s:
                return
            if self._uploads.overdue:
                self._leave("upload_stalled", "an upload made too little progress")
            if now - max(self._heard, self._pinged) > self._timing.keepalive_s:
                self._pinged = now
                self._queue(Frame(ping=pb.Ping(nonce=int(now))))
            await self._check()
