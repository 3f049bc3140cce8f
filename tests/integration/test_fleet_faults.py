"""Cut lines, dead processes, unanswered messages, and machines that are not who they say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from flwr.app import Message

from shared.clock import FixedClock, SystemClock
from shared.fleet.messages import ERROR_NO_REPLY, ERROR_UNDELIVERED
from shared.trust.errors import CoordinatorNotTrusted
from tests.support.fleet import Fleet, Pki, echo, instruct
from tests.support.fleet_lines import Proxy
from tests.support.waiting import wait_until

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
        passed = proxy.down
        wait_until(
            lambda: proxy.down > passed + MB or handler.calls == 12  # noqa: B023 - of this iteration
        )
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
    nodes = [fleet.node(index, handler) for index in (1, 2)]
    fleet.wait_connected(1, 2)
    fleet.stop_serving()
    for node in nodes:
        wait_until(lambda: "lost" in dict(node.states))  # noqa: B023 - called in this iteration
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


def test_the_time_to_live_ends_in_an_error_reply() -> None:
    clock = FixedClock(SystemClock().now())
    fleet = Fleet(2, clock=clock)
    started, never = threading.Event(), threading.Event()

    def stuck(message: Message) -> Message:
        started.set()
        never.wait(60)
        return echo(message)

    try:
        away, slow = fleet.grid.push_messages([instruct(fleet, i, ttl=10.0) for i in (1, 2)])
        fleet.node(2, stuck)
        assert started.wait(60)
        wait_until(lambda: fleet.hub._mailbox.open_entry(slow, 2).delivered)
        assert fleet.grid.pull_messages([away, slow]) == []
        clock.advance(11.0)
        by_key = {r.metadata.reply_to_message_id: r for r in fleet.grid.pull_messages([away, slow])}
        assert by_key[away].error.code == ERROR_UNDELIVERED
        assert by_key[away].metadata.src_node_id == 1
        assert by_key[slow].error.code == ERROR_NO_REPLY
    finally:
        never.set()
        fleet.close()


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
    (later,) = fleet.grid.push_messages([instruct(fleet, 1)])
    wait_until(lambda: later in node.connection._inbox)  # what was to be sent again came before it
    go_on.set()
    assert len(fleet.grid.pull_messages(keys, 60)) == 1
    assert received > 4 * MB
    assert proxy.down - received < MB


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
        node.future.result(60)


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
