"""Flower's grid over ``ClientApp`` objects in this process: real encoding, no network.

The coordinator's limits are generous here, so that a slow machine fails no run. Where all it waits
for will never come, its time leaps: a lost member costs a test nothing, however long the limit.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import shared.fleet.environment  # noqa: F401 - before Flower

# isort: split
from flwr.app import Context, Message, RecordDict

from coordinator.fleet.grid import AllianceGrid
from coordinator.fleet.hub import Hub
from coordinator.rounds import courier, waiting
from coordinator.rounds import round as exchange
from shared.clock import Clock
from shared.errors import TouchstoneError
from shared.fleet.exchange import ENDED
from shared.fleet.messages import ERROR_HANDLER, decode, encode, error_reply, new_run
from tests.support.waiting import PATIENCE_S

ClientFunction = Callable[[Message, Context], Message]

LEAP_S = 5.0


class LeapingTime:
    """Stands in for :mod:`time` where a coordinator waits; a pause is over at once."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        time.sleep(0.001)  # let others work
        self.leap(seconds)

    def leap(self, seconds: float) -> None:
        with self._lock:
            self._ahead += seconds


class InProcessGrid(AllianceGrid):
    """A grid whose members are functions in threads.

    Args:
        apps: node id -> ``ClientApp`` (or any callable of a message and a context).
        node_config: node id -> the ``node_config`` of its context.
        run_id: Flower's id of the run.

    Attributes:
        absent: node ids that are away; messages wait for them, and :meth:`wake` delivers.
        lose_reply: called with an instruction; True drops its reply, as a killed node would.
        time: leaps while nothing that is asked will ever be answered.
    """

    def __init__(
        self,
        apps: Mapping[int, ClientFunction],
        *,
        node_config: Mapping[int, dict[str, Any]] | None = None,
        run_id: int = 7,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(Hub(clock=clock), run_id=run_id)
        self.absent: set[int] = set()
        self.lose_reply: Callable[[Message], bool] = lambda _message: False
        self.time = LeapingTime()
        self._apps = apps
        self._node_config = node_config or {}
        self._contexts: dict[tuple[int, int], Context] = {}
        self._pools = {index: ThreadPoolExecutor(1) for index in apps}
        self._waking = threading.Lock()
        self._given: set[str] = set()
        self._hoped_for: set[str] = set()  # given, and its reply neither taken nor lost

    def connected(self) -> frozenset[int]:
        return frozenset(self._apps) - self.absent

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.connected())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = super().push_messages(messages)
        self.wake()
        return keys

    def pull_messages(self, message_ids: Iterable[str], timeout: float = 0.0) -> list[Message]:
        keys = list(message_ids)
        in_vain = not self._hoped_for
        replies = super().pull_messages(keys, 0.001 if in_vain else timeout)
        self._hoped_for -= {reply.metadata.reply_to_message_id for reply in replies}
        if in_vain and not replies:
            self.time.leap(LEAP_S)
        return replies

    def withdraw_messages(self, message_ids: Iterable[str]) -> None:
        keys = list(message_ids)
        super().withdraw_messages(keys)
        self._hoped_for -= set(keys)

    def for_run(self, run_id: int) -> InProcessGrid:
        other = copy.copy(self)
        other.set_run(new_run(run_id))
        return other

    def _context(self, run_id: int, index: int) -> Context:
        config = self._node_config.get(index, {})
        fresh = Context(run_id, index, config, RecordDict(), {})
        return self._contexts.setdefault((run_id, index), fresh)

    def wake(self) -> None:
        """Hand every present node what it has not been given."""
        with self._waking:
            for index in self.connected():
                for key in self.hub.open_for(index):
                    if key not in self._given:
                        self._given.add(key)
                        self._hoped_for.add(key)
                        self._pools[index].submit(self._work, index, key)

    def _work(self, index: int, key: str) -> None:
        instruction = self.hub.instruction(key, index)
        if instruction is None:
            self._hoped_for.discard(key)
            return
        self.hub.delivered(key, index)
        received = decode(instruction.data)
        try:
            reply = self._apps[index](received, self._context(received.metadata.run_id, index))
        except TouchstoneError as error:
            reply = error_reply(received, ERROR_HANDLER, f"{error.code}: {error.message}")
        except Exception as error:  # noqa: BLE001 - as a node does
            reply = error_reply(received, ERROR_HANDLER, f"failed: {type(error).__name__}")
        lost = self.lose_reply(received)
        if not lost:
            self.hub.answer(key, index, encode(reply))
        if lost or received.metadata.message_type == ENDED:  # the end is told, not asked about
            self._hoped_for.discard(key)

    @contextmanager
    def keeping_time(self) -> Iterator[None]:
        """Let the coordinator's waits go by this grid's time, and no limit of its be short."""
        with (
            patch.object(courier, "time", self.time),
            patch.object(exchange, "time", self.time),
            patch.object(waiting, "ANSWER_S", PATIENCE_S),
        ):
            yield

    def close(self) -> None:
        """Stop the threads."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)
