"""Members that stall, damage, forge and do not keep to the rules, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
from alliance.v1 import fleet_pb2 as pb
from alliance.v1 import fleet_pb2_grpc
from flwr.app import Message

from coordinator.fleet import uploads
from shared.fleet.chunks import opening, pieces
from shared.fleet.messages import ERROR_NO_REPLY, encode
from shared.fleet.wire import channel_options
from shared.limits import (
    GRANT_BYTES,
    MAX_CALLS_OF_MEMBER,
    MAX_MESSAGE_BYTES,
    MAX_SEND_ATTEMPTS,
)
from tests.support.fleet import FAST, Fleet, content, echo, instruct
from tests.support.waiting import wait_until

MB = 1024 * 1024


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(5, max_uploads=2)
    yield fleet
    fleet.close()


@pytest.fixture
def hasty() -> Iterator[Fleet]:
    """Two uploads at a time, and two seconds for one that makes no progress."""
    fleet = Fleet(5, max_uploads=2, timing=replace(FAST, stall_s=2.0))
    yield fleet
    fleet.close()


def test_a_member_that_stalls_gives_its_place_to_the_next(hasty: Fleet) -> None:
    keys = hasty.grid.push_messages([instruct(hasty, i, MB) for i in (1, 2, 3)])
    with hasty.raw(1) as first, hasty.raw(2) as second:
        for member in (first, second):
            asked = member.instruction().metadata.message_id
            member.send(intent=pb.Intent(reply_to=asked, total_bytes=4 * MB))
            assert member.read("grant").reply_to == asked
        hasty.node(3)
        (reply,) = hasty.grid.pull_messages(keys, 60)
        assert reply.metadata.src_node_id == 3


def test_a_trickling_upload_loses_its_place_too(
    hasty: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = hasty.grid.push_messages([instruct(hasty, 1, MB)])
    with hasty.raw(1) as member, monkeypatch.context() as demanding:
        demanding.setattr(uploads, "MIN_TRANSFER_BYTES_S", 64 * MB)
        asked = member.instruction()
        data = encode(echo(asked))
        key = asked.metadata.message_id
        member.send(intent=pb.Intent(reply_to=key, total_bytes=len(data)))
        member.read("grant")
        member.send(start=opening(data, reply_to=key, kind="train.step"))
        pieces_of_one = iter(range(len(data)))

        def trickled_out() -> bool:
            offset = next(pieces_of_one)
            with suppress(grpc.aio.AioRpcError):
                member.send(chunk=pb.Chunk(offset=offset, data=data[offset : offset + 1]))
            return not hasty.hub.has_grant(key)

        wait_until(trickled_out)
    hasty.node(1)
    (reply,) = hasty.grid.pull_messages(keys, 60)
    assert reply.has_content()


def test_a_flipped_byte_is_refused_and_asked_for_again(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    with fleet.raw(1) as member:
        asked = member.instruction()
        data = encode(echo(asked))
        damaged = data[:-1] + bytes([data[-1] ^ 1])
        start = opening(data, reply_to=asked.metadata.message_id, kind="train.step")
        member.send(start=start)
        for piece in pieces(damaged):
            member.send(chunk=piece)
        nack = member.read("nack")
        assert (nack.code, nack.retry) == ("digest_mismatch", True)
        assert fleet.grid.pull_messages(keys, 0.1) == []

        member.send(start=start)
        for piece in pieces(data):
            member.send(chunk=piece)
        assert member.read("ack").message_id == asked.metadata.message_id
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.has_content()


def test_a_reply_that_is_always_damaged_ends_in_an_error(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    with fleet.raw(1) as member:
        asked = member.instruction().metadata.message_id
        for attempt in range(1, MAX_SEND_ATTEMPTS + 1):
            member.send(start=opening(b"good", reply_to=asked, kind="x"))
            member.send(chunk=pb.Chunk(offset=0, data=b"evil"))
            assert member.read("nack").retry == (attempt < MAX_SEND_ATTEMPTS)
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert "digest_mismatch" in reply.error.reason


def test_half_an_upload_leaves_no_trace(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 1, MB)])
    with fleet.raw(1) as member:
        asked = member.instruction()
        data = encode(echo(asked))
        assert len(data) > GRANT_BYTES
        key = asked.metadata.message_id
        member.send(intent=pb.Intent(reply_to=key, total_bytes=len(data)))
        member.read("grant")
        member.send(start=opening(data, reply_to=key, kind="train.step"))
        member.send(chunk=next(iter(pieces(data))))
    fleet.wait_connected()
    assert fleet.grid.pull_messages(keys, 0.1) == []
    assert not fleet.hub.has_grant(key)


def test_a_forged_reply_is_dropped_audited_and_ends_the_stream(fleet: Fleet) -> None:
    """Member 2 answers what member 1 was asked; only what member 1 says counts."""
    keys = fleet.grid.push_messages([instruct(fleet, 1, note="for one")])
    with fleet.raw(1) as honest, fleet.raw(2) as forger:
        asked = honest.instruction()
        forged = encode(Message(content(note="forged"), reply_to=asked))
        key = asked.metadata.message_id
        forger.send(start=opening(forged, reply_to=key, kind="train.step"))
        assert forger.status() is grpc.StatusCode.INVALID_ARGUMENT
        with fleet.raw(2) as again:
            again.send(intent=pb.Intent(reply_to=key, total_bytes=5))
            assert again.status() is grpc.StatusCode.INVALID_ARGUMENT
        assert fleet.audit == [("fleet.reply_forged", {"member": 2, "message_id": key})]

        data = encode(echo(asked))
        honest.send(start=opening(data, reply_to=key, kind="train.step"))
        honest.send(chunk=next(iter(pieces(data))))
        (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.content["note"]["note"] == "for one"


@pytest.mark.parametrize("lie", ["src_node_id", "run_id", "message_id"])
def test_a_reply_whose_inside_lies_becomes_an_error(fleet: Fleet, lie: str) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    with fleet.raw(1) as member:
        asked = member.instruction()
        key = asked.metadata.message_id
        asked.metadata.__dict__[f"_{lie if lie != 'src_node_id' else 'dst_node_id'}"] = (
            "0" * 32 if lie == "message_id" else 99
        )
        data = encode(echo(asked))
        member.send(start=opening(data, reply_to=key, kind="train.step"))
        member.send(chunk=next(iter(pieces(data))))
        (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.error.code == ERROR_NO_REPLY
    assert reply.metadata.src_node_id == 1
    assert ("fleet.reply_malformed", {"member": 1}) in fleet.audit


def test_a_large_reply_without_a_grant_is_sent_back(fleet: Fleet) -> None:
    fleet.grid.push_messages([instruct(fleet, 1, MB)])
    with fleet.raw(1) as member:
        key = member.instruction().metadata.message_id
        start = opening(bytes(GRANT_BYTES + 1), reply_to=key, kind="x")
        member.send(start=start)
        nack = member.read("nack")
    assert (nack.code, nack.retry) == ("no_grant", True)


def test_an_announcement_beyond_the_limit_is_an_error_reply(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    with fleet.raw(1) as member:
        key = member.instruction().metadata.message_id
        member.send(intent=pb.Intent(reply_to=key, total_bytes=MAX_MESSAGE_BYTES + 1))
        assert member.read("nack").code == "message_too_large"
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.has_error()


@pytest.mark.parametrize("begin", ["intent", "start"])
@pytest.mark.parametrize(("kind", "limit"), [("query.consent", 64 * 1024), ("query.share", 4 * MB)])
def test_a_reply_is_lent_no_more_memory_than_its_question_is_worth(
    fleet: Fleet, begin: str, kind: str, limit: int
) -> None:
    """Of a set-up message no more than 64 KiB above its one large field, else 64 KiB."""
    asked = fleet.grid.create_message(content(), kind, 1, "1", 600.0)
    keys = fleet.grid.push_messages([asked])
    too_many = limit + 64 * 1024 + 1
    frames = {
        "intent": lambda key: pb.Intent(reply_to=key, total_bytes=too_many),
        "start": lambda key: pb.MessageStart(reply_to=key, total_bytes=too_many, sha256=bytes(32)),
    }
    with fleet.raw(1) as member:
        key = member.instruction().metadata.message_id
        member.send(**{begin: frames[begin](key)})
        assert member.read("nack").code == "message_too_large"
        assert not fleet.hub.has_grant(key)
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert "above the limit" in reply.error.reason


def test_what_was_announced_small_cannot_grow_on_its_way(fleet: Fleet) -> None:
    asked = fleet.grid.create_message(content(), "query.consent", 1, "1", 600.0)
    keys = fleet.grid.push_messages([asked])
    with fleet.raw(1) as member:
        key = member.instruction().metadata.message_id
        for _ in range(MAX_SEND_ATTEMPTS):
            member.send(start=pb.MessageStart(reply_to=key, total_bytes=9, sha256=bytes(32)))
            member.send(chunk=pb.Chunk(offset=0, data=bytes(64 * 1024)))
            assert member.read("nack").code == "malformed"
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.has_error()


def test_one_member_cannot_take_all_the_calls(fleet: Fleet) -> None:
    """Calls that never greet are calls too."""

    async def silent() -> tuple[grpc.aio.Channel, grpc.aio.StreamStreamCall]:
        options = channel_options(fleet.timing)
        target, credentials = f"localhost:{fleet.port}", fleet.credentials[1]
        channel = grpc.aio.secure_channel(target, credentials, options)
        return channel, fleet_pb2_grpc.FleetServiceStub(channel).Connect()

    async def refused(call: grpc.aio.StreamStreamCall) -> bool:
        return call.done() and await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    made = [fleet.await_(silent()) for _ in range(MAX_CALLS_OF_MEMBER + 1)]
    wait_until(lambda: any(fleet.await_(refused(call)) for _, call in made), 60)
    with fleet.raw(2) as other:
        other.send(ping=pb.Ping(nonce=5))
        assert other.read("pong").nonce == 5
    assert sum(fleet.await_(refused(call)) for _, call in made) == 1
    for channel, _ in made:
        fleet.await_(channel.close())
    fleet.node(1)
    wait_until(lambda: fleet.grid.connected() == {1}, 60)


@pytest.mark.parametrize(
    "frame",
    [
        {"intent": pb.Intent(reply_to="x" * 1000, total_bytes=5)},
        {"chunk": pb.Chunk(offset=7, data=b"stray")},
        {"ack": pb.Ack(message_id="unknown")},
        {"nack": pb.Nack(message_id="unknown", code="c")},
        {"start": pb.MessageStart(reply_to="unknown", total_bytes=3, sha256=bytes(32))},
        {"pong": pb.Pong(nonce=1)},
    ],
)
def test_frames_about_nothing_are_harmless(fleet: Fleet, frame: dict[str, object]) -> None:
    with fleet.raw(1) as member:
        member.send(**frame)
        member.send(ping=pb.Ping(nonce=5))
        assert member.read("pong").nonce == 5


def test_what_a_returning_member_holds_is_not_sent_again(fleet: Fleet) -> None:
    held, other = fleet.grid.push_messages([instruct(fleet, 1), instruct(fleet, 1)])
    with fleet.raw(1, holding=[held]) as member:
        assert member.instruction().metadata.message_id == other
        member.send(ping=pb.Ping(nonce=5))
        assert member.read("pong").nonce == 5
        assert member.skipped == []
    with fleet.raw(1) as member:
        assert member.instruction().metadata.message_id == held


def test_a_second_greeting_ends_the_stream(fleet: Fleet) -> None:
    with fleet.raw(1) as member:
        member.send(hello=pb.Hello())
        assert member.status() is grpc.StatusCode.INVALID_ARGUMENT
