"""Sends one instruction to several members and hands over replies as they come.

Works on any Flower grid. On the alliance grid it also sees who is away, so that a round does not
wait an hour for a member whose machine has gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from coordinator.fleet.grid import AllianceGrid
from shared.errors import MalformedMessage
from shared.fleet.exchange import FAILED, Answer, Instruction

POLL_S = 0.25
OTHER_GRID_POLL_S = 0.05

NO_REPLY = "no_reply"
"""Code of a failure that is the network's or a crash's, not the member's decision."""


@dataclass(frozen=True)
class Reply:
    """A member's answer to one instruction.

    Attributes:
        node_id: Flower's id of the sender, as the grid vouches for it.
        answer: what it said; a grid's error becomes an answer of status ``failed``.
    """

    node_id: int
    answer: Answer


class Courier:
    """One run's way to its members.

    Args:
        grid: any Flower grid.
        stop: asked between waits; raises to end the run.
    """

    def __init__(self, grid: Grid, stop: Callable[[], None] = lambda: None) -> None:
        self._grid = grid
        self._stop = stop

    @property
    def sees_absence(self) -> bool:
        """Whether the grid knows at once who is away, and node ids are roster indices."""
        return isinstance(self._grid, AllianceGrid)

    def reachable(self) -> frozenset[int]:
        """Return the node ids that can be reached now."""
        return frozenset(self._grid.get_node_ids())

    def pause(self, seconds: float) -> None:
        """Wait, but notice within a moment when the run is to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._stop()
            time.sleep(min(left, POLL_S))

    def tell(self, action: str, instructions: Mapping[int, Instruction], *, ttl: float) -> None:
        """Send without waiting for replies; who is away is told on return, until ``ttl`` ends."""
        self._push(action, instructions, "", ttl)

    def ask(
        self,
        action: str,
        instructions: Mapping[int, Instruction],
        *,
        timeout: float,
        away_s: float | None = None,
        group: str = "",
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[Reply]:
        """Send and yield replies in the order of their arrival.

        Args:
            action: message type.
            instructions: by node id.
            timeout: seconds after which the rest is given up.
            away_s: give up once everyone still missing has been away this many seconds.
            group: Flower's group id, the round.
            enough: asked after each reply; true ends the exchange.
        """
        ids = self._push(action, instructions, group, timeout)
        nodes = dict(zip(ids, instructions, strict=True))
        try:
            yield from self._collect(nodes, timeout, away_s, enough)
        finally:
            self._withdraw(nodes)

    def _push(
        self, action: str, instructions: Mapping[int, Instruction], group: str, ttl: float
    ) -> list[str]:
        """Send; members that get the very same instruction share its records, so one model."""
        different = {id(item): item for item in instructions.values()}
        contents = {key: item.content() for key, item in different.items()}
        messages = [
            self._message(contents[id(item)], action, node_id, group, ttl)
            for node_id, item in instructions.items()
        ]
        return list(self._grid.push_messages(messages))

    def _message(
        self, content: RecordDict, action: str, node_id: int, group: str, ttl: float
    ) -> Message:
        if isinstance(self._grid, AllianceGrid):
            return self._grid.create_message(content, action, node_id, group, ttl)
        # In Flower's own processes the constructor knows the run; a grid's method is deprecated.
        return Message(content, node_id, action, ttl=ttl, group_id=group)

    def _collect(
        self,
        nodes: dict[str, int],
        timeout: float,
        away_s: float | None,
        enough: Callable[[], bool],
    ) -> Iterator[Reply]:
        deadline = time.monotonic() + timeout
        last_seen = dict.fromkeys(nodes.values(), time.monotonic())
        while nodes and time.monotonic() < deadline:
            self._stop()
            replies = self._pull(nodes, deadline)
            while replies:  # none is held here while the next one is decoded
                if (node_id := nodes.pop(_answers(replies[0]), None)) is not None:
                    yield Reply(node_id, read_answer(replies.pop(0)))
                    if enough():
                        return
                else:
                    replies.pop(0)
            if (
                away_s is not None
                and self.sees_absence
                and self._all_away(nodes, last_seen, away_s)
            ):
                return

    def _pull(self, nodes: Iterable[str], deadline: float) -> list[Message]:
        wait = max(0.0, min(POLL_S, deadline - time.monotonic()))
        if isinstance(self._grid, AllianceGrid):
            return self._grid.pull_messages(list(nodes), wait)
        messages = list(self._grid.pull_messages(list(nodes)))
        if not messages:
            time.sleep(min(wait, OTHER_GRID_POLL_S))
        return messages

    def _all_away(
        self, nodes: Mapping[str, int], last_seen: dict[int, float], away_s: float
    ) -> bool:
        now, here = time.monotonic(), self.reachable()
        for node_id in here & last_seen.keys():
            last_seen[node_id] = now
        return all(now - last_seen[node_id] > away_s for node_id in nodes.values())

    def _withdraw(self, nodes: Mapping[str, int]) -> None:
        if nodes and isinstance(self._grid, AllianceGrid):
            self._grid.withdraw_messages(nodes)


def _answers(message: Message) -> str:
    return str(message.metadata.reply_to_message_id)


def read_answer(message: Message) -> Answer:
    """Read a reply; a grid's error or bytes that are no answer become a failure."""
    if message.has_error():
        return Answer(FAILED, code=NO_REPLY, text=str(message.error.reason or ""))
    try:
        return Answer.read(message)
    except MalformedMessage as error:
        return Answer(FAILED, code=error.code, text=error.message)
