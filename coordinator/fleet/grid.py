"""Flower's ``Grid`` over the alliance's own streams.

A message to a member that is away waits for it until its time to live ends; a member that comes
back is sent what it has not answered. Every instruction gets exactly one reply: the member's, or an
error that says why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from coordinator.fleet.hub import Hub
from shared.fleet.internals import Run
from shared.fleet.messages import DEFAULT_TTL_S, new_message, new_run


class AllianceGrid(Grid):  # type: ignore[misc] # Flower ships no usable types
    """A grid bound to one run; grids of several runs may share a hub. Thread-safe."""

    def __init__(self, hub: Hub | None = None, *, run_id: int = 0) -> None:
        self.hub = hub or Hub()
        self._run = new_run(run_id)

    def for_run(self, run_id: int) -> AllianceGrid:
        """Return a grid over the same members for another run."""
        return AllianceGrid(self.hub, run_id=run_id)

    def set_run(self, run: Run) -> None:
        """Set the run whose id new messages carry."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run whose id new messages carry."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return an instruction of this run; see :func:`shared.fleet.messages.new_message`."""
        return new_message(
            content,
            dst_node_id,
            message_type,
            run_id=self._run.run_id,
            ttl=DEFAULT_TTL_S if ttl is None else ttl,
            group_id=group_id,
            clock=self.hub.clock,
        )

    def connected(self) -> frozenset[int]:
        """Return the indices of the members whose stream is up now."""
        return self.hub.connected()

    def get_node_ids(self) -> Iterable[int]:
        """Return the connected members' Flower node ids, in order."""
        return sorted(self.hub.connected())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send instructions; return their ids in order.

        They are encoded before this returns, so the caller may go on changing the records.
        Messages that share one ``RecordDict`` are kept once: a model for a thousand members costs
        one model.
        """
        return self.hub.post(messages)

    def pull_messages(self, message_ids: Iterable[str], timeout: float = 0.0) -> list[Message]:
        """Return replies that have arrived, each exactly once, of large ones one at a time.

        Pulling a large reply lets the next member upload.

        Args:
            message_ids: what :meth:`push_messages` returned; ids already pulled are skipped.
            timeout: seconds to wait for the first reply if none is there yet.
        """
        return self.hub.take(list(message_ids), timeout)

    def withdraw_messages(self, message_ids: Iterable[str]) -> None:
        """Give up on instructions: late replies are dropped, members are told not to bother."""
        self.hub.withdraw(message_ids)

    def iter_replies(
        self, message_ids: Iterable[str], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield replies as they arrive, holding no more than what the grants allow.

        Ends when every instruction has had its reply or was withdrawn, or after ``timeout``
        seconds; what is then still open stays open until its time to live ends.
        """
        waiting = dict.fromkeys(message_ids)
        deadline = None if timeout is None else self.hub.clock.monotonic() + timeout
        while waiting:
            left = 1.0 if deadline is None else deadline - self.hub.clock.monotonic()
            replies = self.pull_messages(waiting, max(0.0, min(left, 1.0)))
            for reply in replies:
                waiting.pop(reply.metadata.reply_to_message_id, None)
                yield reply
            if not replies:
                if deadline is not None and left <= 0:
                    return
                waiting = dict.fromkeys(self.hub.known(waiting))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send instructions and return their replies.

        With a ``timeout`` some may be missing; those instructions are withdrawn, since their ids
        are known to nobody who could still ask for a reply.
        """
        keys = self.push_messages(messages)
        replies = list(self.iter_replies(keys, timeout=timeout))
        self.withdraw_messages(keys)
        return replies
