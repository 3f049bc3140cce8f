"""Cut lines, damaged bytes, dead processes and members that do not keep to the rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest
from alliance.v1 import fleet_pb2 as pb
from flwr.app import Message

from coordinator.fleet import uploads
from shared.fleet.chunks import opening, pieces
from shared.fleet.messages import ERROR_NO_REPLY, ERROR_UNDELIVERED, encode
from shared.limits import GRANT_BYTES, MAX_MESSAGE_BYTES, MAX_SEND_ATTEMPTS
from shared.trust.errors import CoordinatorNotTrusted
from tests.support.fleet import Fleet, Pki, Proxy, content, echo, instruct, wait_until

MB = 1024 * 1024


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(5, max_uploads=2)
    yield fleet
    fleet.close()


class Counting:
    """An application that counts its calls and echoes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, message: Message) -> Message:
        self.calls += 1
        return echo(message)


@pytest.mark.parametrize("cut_at", [3 * MB, 9 * MB])
def test_a_line_cut_in_mid_upload_is_resumed_without_computing_twice(
    fleet: Fleet, cut_at: int
) -> None:
    handler, proxy = Counting(), Proxy(fleet)
    proxy.cut_after = cut_at
    fleet.node(1, handler, port=proxy.port)
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1, 4 * MB)], timeout=60)
    assert proxy.cuts == 1
    assert handler.calls == 1
    assert reply.content["model"].to_numpy_ndarrays()[0][-1] == 4 * MB - 1


def test_a_line_cut_again_and_again_loses_nothing(fleet: Fleet) -> None:
    handler, proxy = Counting(), Proxy(fleet)
    fleet.node(1, handler, port=proxy.port)
    keys = fleet.grid.push_messages([instruct(fleet, 1, 400_000, str(n)) for n in range(12)])
    for _ in range(5):
        time.sleep(0.05)
        proxy.cut()
    replies = list(fleet.grid.iter_replies(keys, timeout=60))
    assert sorted(int(r.content["note"]["note"]) for r in replies) == list(range(12))
    assert handler.calls == 12


def test_a_killed_node_is_sent_what_it_has_not_answered(fleet: Fleet) -> None:
    started, never = threading.Event(), threading.Event()

    def stuck(message: Message) -> Message:
        started.set()
        never.wait(60)
        return echo(message)

    node = fleet.node(1, stuck)
    keys = fleet.grid.push_messages([instruct(fleet, 1, note="again")])
    assert started.wait(60)
    fleet.kill(node)
    fleet.wait_connected()
    fleet.node(1)
    (reply,) = fleet.grid.pull_messages(keys, 60)
    never.set()
    assert reply.content["note"]["note"] == "again"


def test_nodes_find_a_restarted_coordinator(fleet: Fleet) -> None:
    handler = Counting()
    for index in (1, 2):
        fleet.node(index, handler)
    fleet.wait_connected(1, 2)
    fleet.stop_serving()
    time.sleep(0.3)
    fleet.serve()
    fleet.wait_connected(1, 2)
    replies = fleet.grid.send_and_receive([instruct(fleet, i) for i in (1, 2)], timeout=60)
    assert len(replies) == 2


def test_a_reply_to_a_coordinator_that_forgot_the_question_is_dropped(fleet: Fleet) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(message: Message) -> Message:
        started.set()
        go_on.wait(60)
        return echo(message)

    node = fleet.node(1, slow)
    fleet.grid.push_messages([instruct(fleet, 1, note="lost")])
    assert started.wait(60)
    fleet.stop_serving()
    fleet.serve()
    fleet.wait_connected(1)
    go_on.set()
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1, note="new")], timeout=60)
    assert reply.content["note"]["note"] == "new"
    assert not node.future.done()
    assert fleet.audit == []


def test_the_time_to_live_ends_in_an_error_reply(fleet: Fleet) -> None:
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 4, ttl=0.2)], timeout=60)
    assert reply.error.code == ERROR_UNDELIVERED
    assert reply.metadata.src_node_id == 4

    never = threading.Event()

    def stuck(message: Message) -> Message:
        never.wait(5)
        return echo(message)

    fleet.node(5, stuck)
    fleet.wait_connected(5)
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 5, ttl=0.5)], timeout=60)
    never.set()
    assert reply.error.code == ERROR_NO_REPLY


def test_grants_bound_the_uploads_that_are_not_consumed(fleet: Fleet) -> None:
    """With two grants, two large replies arrive; each one pulled lets one more come."""
    for index in range(1, 6):
        fleet.node(index)
    fleet.wait_connected(1, 2, 3, 4, 5)
    keys = fleet.grid.push_messages([instruct(fleet, i, MB) for i in range(1, 6)])

    def arrived() -> list[str]:
        unanswered = {key for index in range(1, 6) for key in fleet.hub.open_for(index)}
        return [key for key in fleet.hub.known(keys) if key not in unanswered]

    for left in (5, 4, 3, 2, 1):
        expected = min(2, left)
        wait_until(lambda: len(arrived()) == expected)  # noqa: B023 - called in this iteration
        time.sleep(0.1)
        assert len(arrived()) == expected
        assert len(fleet.grid.pull_messages(arrived()[:1])) == 1


def test_small_replies_need_no_grant(fleet: Fleet) -> None:
    for index in range(1, 6):
        fleet.node(index)
    replies = fleet.grid.send_and_receive([instruct(fleet, i) for i in range(1, 6)], timeout=60)
    assert len(replies) == 5


def test_a_member_that_stalls_gives_its_place_to_the_next(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, i, MB) for i in (1, 2, 3)])
    with fleet.raw(1) as first, fleet.raw(2) as second:
        for member in (first, second):
            asked = member.instruction().metadata.message_id
            member.send(intent=pb.Intent(reply_to=asked, total_bytes=4 * MB))
            assert member.read("grant").reply_to == asked
        fleet.node(3)
        (reply,) = fleet.grid.pull_messages(keys, 60)
        assert reply.metadata.src_node_id == 3


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
    fleet.grid.push_messages([instruct(fleet, 1)])
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


def test_a_trickling_upload_loses_its_place_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MIN_TRANSFER_BYTES_S", 64 * MB)
    keys = fleet.grid.push_messages([instruct(fleet, 1, MB)])
    with fleet.raw(1) as member:
        asked = member.instruction()
        data = encode(echo(asked))
        key = asked.metadata.message_id
        member.send(intent=pb.Intent(reply_to=key, total_bytes=len(data)))
        member.read("grant")
        member.send(start=opening(data, reply_to=key, kind="train.step"))
        deadline = time.monotonic() + 60
        offset = 0
        while fleet.hub.has_grant(key):
            assert time.monotonic() < deadline
            with suppress(grpc.aio.AioRpcError):
                member.send(chunk=pb.Chunk(offset=offset, data=data[offset : offset + 1]))
            offset += 1
            time.sleep(0.1)
    fleet.node(1)
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.has_content()


def test_what_a_returning_member_holds_is_not_sent_again(fleet: Fleet) -> None:
    held, other = fleet.grid.push_messages([instruct(fleet, 1), instruct(fleet, 1)])
    with fleet.raw(1, holding=[held]) as member:
        assert member.instruction().metadata.message_id == other
        member.send(ping=pb.Ping(nonce=5))
        assert member.read("pong").nonce == 5
        assert member.skipped == []
    with fleet.raw(1) as member:
        assert member.instruction().metadata.message_id == held


def test_a_node_says_what_it_holds(fleet: Fleet) -> None:
    """After a cut the instruction in progress does not cross the line a second time."""
    started, go_on = threading.Event(), threading.Event()

    def slow(message: Message) -> Message:
        started.set()
        go_on.wait(60)
        return echo(message)

    proxy = Proxy(fleet)
    node = fleet.node(1, slow, port=proxy.port)
    keys = fleet.grid.push_messages([instruct(fleet, 1, MB)])
    assert started.wait(60)
    received = proxy.down
    proxy.cut()
    wait_until(lambda: [state for state, _ in node.states].count("connected") == 2)
    time.sleep(0.3)
    go_on.set()
    assert len(fleet.grid.pull_messages(keys, 60)) == 1
    assert received > 4 * MB
    assert proxy.down - received < MB


def test_a_second_greeting_ends_the_stream(fleet: Fleet) -> None:
    with fleet.raw(1) as member:
        member.send(hello=pb.Hello())
        assert member.status() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_line_that_is_accepted_and_dropped_is_network_trouble(fleet: Fleet) -> None:
    """A gateway in front of a coordinator that is down ends TLS handshakes half-way."""
    proxy = Proxy(fleet)
    fleet.stop_serving()
    node = fleet.node(1, port=proxy.port)
    wait_until(lambda: len(node.states) >= 3)
    assert not node.future.done()
    fleet.serve()
    fleet.wait_connected(1)


def test_a_coordinator_of_another_alliance_ends_a_node_that_was_never_connected(
    fleet: Fleet,
) -> None:
    fleet.credentials[1], _ = Pki().member(1)
    node = fleet.node(1)
    with pytest.raises(CoordinatorNotTrusted):
        node.future.result(15)


def test_an_impostor_does_not_end_a_node_that_knows_its_coordinator(fleet: Fleet) -> None:
    """Whoever can redirect traffic for a minute must not be able to stop every node for good."""
    node = fleet.node(1)
    fleet.wait_connected(1)
    real, fleet.pki.server = fleet.pki.server, Pki().server
    fleet.stop_serving()
    fleet.serve()
    wait_until(lambda: any("does not belong" in text for _, text in node.states))
    fleet.stop_serving()
    fleet.pki.server = real
    fleet.serve()
    fleet.wait_connected(1)


def test_a_certificate_the_authority_did_not_issue_never_connects(fleet: Fleet) -> None:
    """TLS 1.3 tells the refused side nothing, so all that a node can say is that it was cut off."""
    fleet.credentials[1], _ = Pki().member(1, trusts=fleet.pki.ca_pem)
    node = fleet.node(1)
    wait_until(lambda: len(node.states) >= 3)
    assert {state for state, _ in node.states} == {"lost"}
    assert fleet.grid.connected() == frozenset()
