"""A connection that changes its certificate, and one that waits out an outage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from flwr.app import Message

from participant.node import connection as connection_module
from shared.errors import AuthError
from shared.fleet.wire import Timing
from shared.trust.peer import Peer
from tests.support.fleet import FAST, Fleet, Node, echo, instruct
from tests.support.waiting import wait_until


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet(1)
    yield made
    made.close()


class Renewed:
    """Hands out the member's next certificate once it is there."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.waiting: list[grpc.ChannelCredentials] = []
        self.taken = 0

    def issue(self, *, old_stays: bool) -> None:
        """Issue another certificate to member 1; the old one may end at once."""
        credentials, der = self._fleet.pki.member(1)
        if not old_stays:
            self._fleet.doorman.known.clear()
        self._fleet.doorman.known[der] = Peer(1, "member-1", "")
        self.waiting.append(credentials)

    def __call__(self) -> grpc.ChannelCredentials | None:
        if not self.waiting:
            return None
        self.taken += 1
        return self.waiting.pop()


def _connections(node: Node) -> int:
    return [state for state, _ in node.states].count("connected")


@pytest.mark.parametrize("values", [4, 1_000_000], ids=["small", "upload that waits for a grant"])
def test_a_round_under_way_survives_the_change(fleet: Fleet, values: int) -> None:
    working, go_on = threading.Event(), threading.Event()
    worked: list[str] = []

    def slow(message: Message) -> Message:
        worked.append(message.metadata.message_id)
        working.set()
        assert go_on.wait(60)
        return echo(message)

    renewed = Renewed(fleet)
    node = fleet.node(1, slow, newer=renewed)
    fleet.wait_connected(1)
    (key,) = fleet.grid.push_messages([instruct(fleet, 1, values, ttl=120.0)])
    assert working.wait(60)
    renewed.issue(old_stays=True)
    fleet.loop.call_soon_threadsafe(node.connection.renew)
    wait_until(lambda: _connections(node) == 2)
    fleet.loop.call_soon_threadsafe(fleet.doorman.known.pop, next(iter(fleet.doorman.known)))
    go_on.set()
    replies: list[Message] = []
    wait_until(lambda: replies.extend(fleet.grid.pull_messages([key])) or replies)
    assert not replies[0].has_error()
    assert worked == [key]
    assert renewed.taken == 1
    assert not any(state == "lost" for state, _ in node.states)
    fleet.stop(node)


def test_a_change_made_by_another_process_is_noticed_when_the_old_one_is_refused(
    fleet: Fleet,
) -> None:
    renewed = Renewed(fleet)
    node = fleet.node(1, newer=renewed)
    fleet.wait_connected(1)
    renewed.issue(old_stays=False)
    wait_until(lambda: _connections(node) == 2)
    assert not node.future.done()
    fleet.stop(node)


def test_without_a_newer_certificate_a_refusal_still_ends_the_node(fleet: Fleet) -> None:
    node = fleet.node(1, newer=Renewed(fleet))
    fleet.wait_connected(1)
    fleet.doorman.known.clear()
    with pytest.raises(AuthError):
        node.future.result(60)


def test_a_node_comes_back_after_an_outage_of_minutes_with_capped_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pauses are counted, not slept: one by one they add up to an outage of ten minutes."""
    bounds: list[float] = []

    def uniform(_low: float, high: float) -> float:
        bounds.append(high)
        return 0.0

    monkeypatch.setattr(connection_module._random, "uniform", uniform)
    timing = replace(
        FAST, backoff_first_s=Timing.backoff_first_s, backoff_max_s=Timing.backoff_max_s
    )
    fleet = Fleet(1, timing=timing)
    try:
        node = fleet.node(1)
        fleet.wait_connected(1)
        fleet.stop_serving()
        wait_until(lambda: sum(bounds) > 600)
        assert not node.future.done()
        fleet.serve()
        wait_until(lambda: _connections(node) == 2)
    finally:
        fleet.close()
    assert bounds[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0]
    assert set(bounds[6:]) == {15.0}
