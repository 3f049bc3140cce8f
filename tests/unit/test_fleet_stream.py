"""Ends of a stream against peers that do not read, write or answer; no sockets, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from alliance.v1 import fleet_pb2 as pb

from coordinator.fleet.hub import Hub
from coordinator.fleet.stream import MemberStream
from participant.node.inbox import Inbox
from participant.node.session import Session
from shared.errors import MalformedMessage, NetworkError
from shared.fleet.messages import new_message
from shared.fleet.wire import Timing
from shared.limits import MAX_QUEUED_FRAMES
from tests.support.fleet import content
from tests.support.leaping_loop import run

TIMING = Timing()
HOUR = 3600.0


class Peer:
    """A call whose other end is scripted."""

    def __init__(self, frames: Callable[[], Any], *, takes: bool) -> None:
        self._frames = frames
        self._takes = takes
        self.written: list[Any] = []

    async def read(self) -> Any:
        await asyncio.sleep(0.01)
        frame = self._frames()
        return await asyncio.Event().wait() if frame is None else frame

    async def write(self, frame: Any) -> None:
        if not self._takes:
            await asyncio.Event().wait()
        self.written.append(frame)


class Idle(Peer):
    """A call whose other end only answers when it is asked whether it is there."""

    def __init__(self, pong: Any) -> None:
        super().__init__(lambda: None, takes=True)
        self._pong = pong
        self._asked = asyncio.Semaphore(0)

    async def read(self) -> Any:
        await self._asked.acquire()
        return self._pong

    async def write(self, frame: Any) -> None:
        await super().write(frame)
        self._asked.release()


async def admitted() -> None:
    """Stand in for the gatekeeper."""


def serve(peer: Peer, hub: Hub | None = None) -> None:
    async def main() -> None:
        stream = MemberStream(
            hub or Hub(),
            1,
            peer,
            holding=frozenset(),
            timing=TIMING,
            downloads=asyncio.Semaphore(1),
            check=admitted,
        )
        async with asyncio.timeout(HOUR):
            await stream.run()

    run(main())


def converse(peer: Peer) -> None:
    async def main() -> None:
        session = Session(peer, Inbox(), lambda *_: None, TIMING)
        async with asyncio.timeout(HOUR):
            await session.run()

    run(main())


def test_the_coordinator_does_not_collect_answers_for_a_member_that_reads_none() -> None:
    count = 0

    def ping() -> pb.NodeFrame:
        nonlocal count
        count += 1
        return pb.NodeFrame(ping=pb.Ping(nonce=count))

    with pytest.raises(MalformedMessage, match="reads none"):
        serve(Peer(ping, takes=False))
    assert count <= MAX_QUEUED_FRAMES + 10


def test_a_node_does_not_collect_answers_for_a_coordinator_that_reads_none() -> None:
    ping = pb.CoordinatorFrame(ping=pb.Ping(nonce=1))
    with pytest.raises(NetworkError, match="reads none"):
        converse(Peer(lambda: ping, takes=False))


def test_a_silent_member_is_asked_and_then_left() -> None:
    peer = Peer(lambda: None, takes=True)
    serve(peer)
    assert {frame.WhichOneof("body") for frame in peer.written} == {"ping"}


def test_a_silent_coordinator_is_asked_and_then_left() -> None:
    peer = Peer(lambda: None, takes=True)
    with pytest.raises(NetworkError, match="silent"):
        converse(peer)
    assert {frame.WhichOneof("body") for frame in peer.written} == {"ping"}


@pytest.mark.parametrize(
    ("end", "pong"),
    [
        (serve, pb.NodeFrame(pong=pb.Pong())),
        (converse, pb.CoordinatorFrame(pong=pb.Pong())),
    ],
)
def test_keep_alives_keep_an_idle_stream_up(end: Callable[[Peer], None], pong: Any) -> None:
    peer = Idle(pong)
    with pytest.raises(TimeoutError):  # the test's own, after an hour
        end(peer)
    assert len(peer.written) > HOUR / TIMING.silence_s
    assert {frame.WhichOneof("body") for frame in peer.written} == {"ping"}


def test_a_member_that_takes_in_nothing_is_left() -> None:
    hub = Hub()
    hub.post([new_message(content(), 1, "train", run_id=1)])
    with pytest.raises(TimeoutError):
        serve(Peer(lambda: pb.NodeFrame(pong=pb.Pong()), takes=False), hub)


@pytest.mark.parametrize("frame", [pb.NodeFrame(), pb.NodeFrame(hello=pb.Hello())])
def test_a_frame_out_of_place_ends_the_stream(frame: pb.NodeFrame) -> None:
    with pytest.raises(MalformedMessage, match="unexpected"):
        serve(Peer(lambda: frame, takes=True))


@pytest.mark.parametrize(
    "frame", [pb.CoordinatorFrame(), pb.CoordinatorFrame(welcome=pb.Welcome())]
)
def test_a_frame_the_node_does_not_know_ends_the_session(frame: pb.CoordinatorFrame) -> None:
    with pytest.raises(NetworkError, match="does not know"):
        converse(Peer(lambda: frame, takes=True))
