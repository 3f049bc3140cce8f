"""Other ends and bad lines of a fleet: a member that speaks by hand, a relay that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import shared.fleet.environment  # noqa: F401 - before gRPC and Flower

# isort: split
import grpc
from alliance.v1 import fleet_pb2 as pb
from alliance.v1 import fleet_pb2_grpc
from flwr.app import Message

from shared.fleet.messages import decode
from shared.fleet.wire import PROTOCOL, SESSION_BYTES, channel_options
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from tests.support.fleet import Fleet


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
        async with asyncio.timeout(PATIENCE_S):
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
            async with asyncio.timeout(PATIENCE_S):
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
