"""What every grid must do, over gRPC and mutual TLS and in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flwr.app import Message

from coordinator.fleet.grid import AllianceGrid
from shared.clock import FixedClock, SystemClock
from tests.support.fleet import Fleet, content, echo
from tests.support.grid import InProcessGrid

Handler = Callable[[Message], Message]
Opener = Callable[[dict[int, Handler]], "Iterator[AllianceGrid]"]


@contextmanager
def over_grpc(handlers: dict[int, Handler]) -> Iterator[AllianceGrid]:
    fleet = Fleet(max(handlers))
    try:
        for index, handler in handlers.items():
            fleet.node(index, handler)
        fleet.wait_connected(*handlers)
        yield fleet.grid
    finally:
        fleet.close()


@contextmanager
def in_process(handlers: dict[int, Handler]) -> Iterator[AllianceGrid]:
    apps = {i: (lambda message, _context, h=h: h(message)) for i, h in handlers.items()}
    grid = InProcessGrid(apps)
    try:
        yield grid
    finally:
        grid.close()


@pytest.mark.parametrize("opened", [over_grpc, in_process])
class TestGrid:
    def test_node_ids_are_those_present(self, opened: Opener) -> None:
        with opened({1: echo, 3: echo}) as grid:
            assert list(grid.get_node_ids()) == [1, 3]
            assert [node.node_id for node in grid.get_nodes()] == [1, 3]

    def test_push_and_pull(self, opened: Opener) -> None:
        with opened({1: echo, 2: echo}) as grid:
            messages = [grid.create_message(content(note=str(i)), "train", i, "4") for i in (1, 2)]
            keys = list(grid.push_messages(messages))
            replies = list(grid.iter_replies(keys, timeout=60))
            assert {r.metadata.reply_to_message_id for r in replies} == set(keys)
            assert {r.metadata.group_id for r in replies} == {"4"}
            assert list(grid.pull_messages(keys)) == []

    def test_send_and_receive_returns_what_came_in_time(self, opened: Opener) -> None:
        never = threading.Event()

        def stuck(message: Message) -> Message:
            never.wait(60)
            return echo(message)

        with opened({1: echo, 2: stuck}) as grid:
            clock = grid.hub.clock = FixedClock(SystemClock().now())
            pull = grid.pull_messages

            def time_is_up_after_one(keys: list[str], timeout: float) -> list[Message]:
                if replies := pull(keys, timeout):
                    clock.advance(3)
                return replies

            grid.pull_messages = time_is_up_after_one
            messages = [grid.create_message(content(), "train", i, "") for i in (1, 2)]
            try:
                replies = list(grid.send_and_receive(messages, timeout=2))
            finally:
                never.set()
            assert [r.metadata.src_node_id for r in replies] == [1]

    def test_a_failure_is_an_error_reply(self, opened: Opener) -> None:
        def broken(_message: Message) -> Message:
            raise RuntimeError("secret")

        with opened({1: broken}) as grid:
            (reply,) = grid.send_and_receive(
                [grid.create_message(content(), "train", 1, "")], timeout=60
            )
            assert reply.has_error()
            assert "secret" not in reply.error.reason

    def test_runs_share_members_but_not_ids(self, opened: Opener) -> None:
        seen: list[int] = []

        def note(message: Message) -> Message:
            seen.append(message.metadata.run_id)
            return echo(message)

        with opened({1: note}) as grid:
            other = grid.for_run(8)
            keys = other.push_messages([other.create_message(content(), "train", 1, "")])
            assert [r.metadata.run_id for r in other.iter_replies(keys, timeout=60)] == [8]
            assert seen == [8]
            assert (grid.run.run_id, other.run.run_id) == (7, 8)

    def test_threads_may_share_a_grid(self, opened: Opener) -> None:
        failures: list[str] = []

        def ask(grid: AllianceGrid, index: int) -> None:
            for n in range(10):
                note = f"{index}-{n}"
                (reply,) = grid.send_and_receive(
                    [grid.create_message(content(note=note), "train", index, "")], timeout=60
                )
                if reply.content["note"]["note"] != note:
                    failures.append(note)

        with opened({1: echo, 2: echo, 3: echo}) as grid:
            threads = [threading.Thread(target=ask, args=(grid, i)) for i in (1, 2, 3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert failures == []
            assert not any(thread.is_alive() for thread in threads)


def test_the_in_process_grid_can_lose_members_and_replies() -> None:
    grid = InProcessGrid({1: lambda m, _c: echo(m), 2: lambda m, _c: echo(m)})
    try:
        grid.absent.add(2)
        keys = grid.push_messages([grid.create_message(content(), "train", i, "") for i in (1, 2)])
        assert [r.metadata.src_node_id for r in grid.iter_replies(keys[:1], timeout=60)] == [1]
        assert grid.pull_messages(keys[1:]) == []
        grid.absent.clear()
        grid.wake()
        assert [r.metadata.src_node_id for r in grid.iter_replies(keys, timeout=60)] == [2]
        grid.lose_reply = lambda _m: True
        keys = grid.push_messages([grid.create_message(content(), "train", 1, "")])
        assert list(grid.iter_replies(keys, timeout=0.3)) == []
    finally:
        grid.close()
