"""Messages to and fro over real gRPC and mutual TLS."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from coordinator.fleet import outgoing
from coordinator.fleet.stream import MemberStream
from participant.node import inbox
from participant.node.session import Session
from shared.errors import MemberRevoked, PolicyRefused
from shared.fleet.errors import IdentityInUse
from shared.fleet.messages import ERROR_HANDLER
from tests.support.fleet import FAST, Fleet, echo, instruct
from tests.support.waiting import PATIENCE_S, wait_until

MB = 1024 * 1024


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(5)
    yield fleet
    fleet.close()


def test_five_members_exchange_eight_megabytes(fleet: Fleet) -> None:
    for index in range(1, 6):
        fleet.node(index)
    fleet.wait_connected(1, 2, 3, 4, 5)
    values = 2 * MB
    replies = fleet.grid.send_and_receive(
        [instruct(fleet, index, values, f"to {index}") for index in range(1, 6)], timeout=60
    )
    assert sorted(r.metadata.src_node_id for r in replies) == [1, 2, 3, 4, 5]
    for reply in replies:
        assert reply.content["note"]["note"] == f"to {reply.metadata.src_node_id}"
        (vector,) = reply.content["model"].to_numpy_ndarrays()
        assert np.array_equal(vector, np.arange(values, dtype=np.float32))


def test_a_node_works_on_one_instruction_at_a_time_in_order(fleet: Fleet) -> None:
    seen: list[str] = []
    inside = threading.Semaphore(1)

    def handler(message: Message) -> Message:
        assert inside.acquire(blocking=False)
        time.sleep(0.01)
        seen.append(message.content["note"]["note"])
        inside.release()
        return echo(message)

    fleet.node(1, handler)
    notes = [str(n) for n in range(8)]
    replies = fleet.grid.send_and_receive([instruct(fleet, 1, note=n) for n in notes], timeout=60)
    assert seen == notes
    assert not any(r.has_error() for r in replies)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("a listing: buy cheap watches"), "failed: ValueError"),
        (PolicyRefused("budget_spent", "the budget is spent"), "policy_refused: the budget is sp"),
    ],
)
def test_a_failing_application_is_an_error_reply_without_content(
    fleet: Fleet, failure: Exception, reason: str
) -> None:
    def handler(_message: Message) -> Message:
        raise failure

    node = fleet.node(1, handler)
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1)], timeout=60)
    assert reply.error.code == ERROR_HANDLER
    assert reply.error.reason.startswith(reason)
    assert "watches" not in reply.error.reason
    assert not node.future.done()


def test_an_application_that_returns_no_reply_is_an_error_reply(fleet: Fleet) -> None:
    fleet.node(1, lambda _message: None)  # type: ignore[arg-type, return-value]
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1)], timeout=60)
    assert reply.error.code == ERROR_HANDLER


def test_a_member_that_is_away_gets_its_message_when_it_comes(fleet: Fleet) -> None:
    keys = fleet.grid.push_messages([instruct(fleet, 2, note="later")])
    assert fleet.grid.pull_messages(keys, 0.1) == []
    fleet.node(2)
    (reply,) = fleet.grid.pull_messages(keys, 60)
    assert reply.content["note"]["note"] == "later"


def test_a_newer_stream_of_a_member_replaces_the_older(fleet: Fleet) -> None:
    first = fleet.node(1)
    fleet.wait_connected(1)
    second = fleet.node(1)
    with pytest.raises(IdentityInUse):
        first.future.result(60)
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1)], timeout=60)
    assert reply.has_content()
    assert not second.future.done()


def test_revocation_closes_a_live_stream_and_ends_the_node(fleet: Fleet) -> None:
    node = fleet.node(3)
    fleet.wait_connected(3)
    fleet.doorman.revoked.add(3)
    with pytest.raises(MemberRevoked):
        node.future.result(60)
    fleet.wait_connected()


def test_both_ends_of_an_idle_stream_hear_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps it up: the silence after which it would end is tested without sockets."""
    heard: list[str] = []
    for end in (MemberStream, Session):
        put = end._put

        async def noted(self: object, frame: Any, put: Any = put) -> None:
            heard.append(f"{type(self).__name__} {frame.WhichOneof('body')}")
            await put(self, frame)

        monkeypatch.setattr(end, "_put", noted)
    fleet = Fleet(1, timing=replace(FAST, keepalive_s=0.1))
    try:
        node = fleet.node(1)
        wait_until(
            lambda: (
                {"MemberStream ping", "Session pong"} <= set(heard)
                or {"Session ping", "MemberStream pong"} <= set(heard)
            )
        )
        assert [state for state, _ in node.states] == ["connected"]
    finally:
        fleet.close()


def test_a_withdrawn_instruction_is_not_worked_on(fleet: Fleet) -> None:
    started, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def handler(message: Message) -> Message:
        seen.append(message.content["note"]["note"])
        started.set()
        go_on.wait(60)
        return echo(message)

    node = fleet.node(1, handler)
    first, second, third = fleet.grid.push_messages(
        [instruct(fleet, 1, note=n) for n in ("first", "second", "third")]
    )
    assert started.wait(60)
    inbox = node.connection._inbox
    wait_until(lambda: set(inbox.held()) == {first, second, third})
    fleet.grid.withdraw_messages([second])
    wait_until(lambda: second not in inbox)
    go_on.set()
    fleet.grid.pull_messages([third], 60)
    assert seen == ["first", "third"]
    assert fleet.grid.pull_messages([second]) == []
    assert len(fleet.grid.pull_messages([first])) == 1


def test_a_node_told_to_stop_says_goodbye(fleet: Fleet) -> None:
    node = fleet.node(1)
    fleet.wait_connected(1)
    fleet.stop(node)
    assert node.states[-1][0] == "stopped"
    fleet.wait_connected()


def test_a_node_can_stop_while_the_coordinator_is_away(fleet: Fleet) -> None:
    fleet.stop_serving()
    node = fleet.node(1)
    wait_until(lambda: len(node.states) >= 2)
    fleet.stop(node)
    assert node.states[-1][0] == "stopped"


def test_withdrawn_instructions_leave_nothing_at_a_busy_member(fleet: Fleet) -> None:
    """Sent and withdrawn while the member trains, over and over: nothing of them is kept."""
    started, go_on, seen = threading.Event(), threading.Event(), []

    def slow(message: Message) -> Message:
        seen.append(message.content["note"]["note"])
        started.set()
        go_on.wait(PATIENCE_S)
        return echo(message)

    node = fleet.node(1, slow)
    fleet.wait_connected(1)
    first = fleet.grid.push_messages([instruct(fleet, 1, note="first")])
    assert started.wait(PATIENCE_S)
    tracemalloc.start()
    try:
        for number in range(12):
            (key,) = fleet.grid.push_messages([instruct(fleet, 1, MB, f"withdrawn {number}")])
            wait_until(lambda key=key: fleet.hub._mailbox._entries[key].delivered)
            fleet.grid.withdraw_messages([key])
        wait_until(lambda: node.connection._inbox.held() == first)
        wait_until(lambda: tracemalloc.get_traced_memory()[0] < 12 * MB, 60)  # of 48 that came
    finally:
        tracemalloc.stop()
        go_on.set()
    last = fleet.grid.push_messages([instruct(fleet, 1, note="last")])
    assert len(list(fleet.grid.iter_replies([*first, *last], timeout=PATIENCE_S))) == 2
    assert seen == ["first", "last"]


def test_a_member_that_is_full_says_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(message: Message) -> Message:
        started.set()
        go_on.wait(PATIENCE_S)
        return echo(message)

    monkeypatch.setattr(inbox, "MAX_HELD_BYTES", 5 * MB)
    fleet.node(1, slow)
    fleet.wait_connected(1)
    keys = fleet.grid.push_messages([instruct(fleet, 1)])
    assert started.wait(PATIENCE_S)
    keys += fleet.grid.push_messages([instruct(fleet, 1, MB), instruct(fleet, 1, MB)])
    (refused,) = fleet.grid.pull_messages(keys, PATIENCE_S)
    assert "busy" in refused.error.reason
    go_on.set()
    assert len(list(fleet.grid.iter_replies(keys, timeout=PATIENCE_S))) == 2


def test_an_instruction_that_no_member_would_take_is_not_sent(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "MAX_INSTRUCTION_BYTES", MB)
    fleet.node(1)
    (reply,) = fleet.grid.send_and_receive([instruct(fleet, 1, MB)], timeout=PATIENCE_S)
    assert "above the limit" in reply.error.reason
