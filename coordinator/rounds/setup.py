"""Setting up one session of the secure sum: advertise, share, confirm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from coordinator.rounds.book import RunBook
from coordinator.rounds.courier import Courier, Reply
from shared.errors import TouchstoneError
from shared.fleet.exchange import ADVERTISE, CONFIRM, OK, REFUSED, SHARE, Instruction
from shared.fleet.refusals import NOT_YET
from shared.secagg import Coordinator, SetupOutcome, peek

Accept = Callable[[int, bytes], None]


@dataclass
class Session:
    """A session that is set up.

    Attributes:
        core: the coordinator's state machine.
        nodes: Flower node id by member index.
        confirmed: U2, the members that rounds may choose from.
    """

    core: Coordinator
    nodes: dict[int, int]
    confirmed: frozenset[int]


@dataclass
class Refusals:
    """Who said no to a run, and who must stay out of the next session.

    Attributes:
        by_policy: reason code by member index; taken back when the member agrees.
        excluded: members that cheated or could not be set up with.
        failed: failure code, by index, of members that could not say whether they agree.
    """

    by_policy: dict[int, str] = field(default_factory=dict)
    excluded: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def waiting(self) -> frozenset[int]:
        """Members that said no for now: they are asked again before every round."""
        return frozenset(index for index, code in self.by_policy.items() if code in NOT_YET)

    @property
    def final(self) -> frozenset[int]:
        """Members that said no for a reason that time alone does not lift."""
        return frozenset(self.by_policy) - self.waiting

    def forget_final(self) -> None:
        """Let everyone be asked anew but those that are asked before every round anyway."""
        for index in self.final:
            del self.by_policy[index]


class SessionSetup:
    """Runs the three exchanges once.

    Args:
        courier: the way to the members.
        book: where refusals and bad messages are noted.
        signed_manifest: what members are asked to agree to.
        timeout: seconds for each exchange.
    """

    def __init__(
        self, courier: Courier, book: RunBook, signed_manifest: bytes, timeout: float
    ) -> None:
        self._courier = courier
        self._book = book
        self._manifest = signed_manifest
        self._timeout = timeout

    def run(
        self, core: Coordinator, node_ids: Iterable[int], refusals: Refusals
    ) -> tuple[Session, SetupOutcome]:
        """Set up a session with whoever of ``node_ids`` agrees.

        Raises:
            TooFew: too few members are left after one of the exchanges.
        """
        nodes = self._advertise(core, node_ids, refusals)
        request = core.share_request()
        shared = [
            index
            for index, reply in self._exchange(SHARE, dict.fromkeys(nodes, request), nodes)
            if self._take(index, reply, core.on_share)
        ]
        requests = {index: core.confirm_request(index) for index in shared}
        for index, reply in self._exchange(CONFIRM, requests, nodes):
            self._take(index, reply, core.on_confirm)
        outcome = core.finish_setup()
        confirmed = frozenset(outcome.confirmed)
        return Session(core, {i: nodes[i] for i in confirmed}, confirmed), outcome

    def _advertise(
        self, core: Coordinator, node_ids: Iterable[int], refusals: Refusals
    ) -> dict[int, int]:
        instruction = Instruction(payload=core.advertise_request(), manifest=self._manifest)
        nodes: dict[int, int] = {}
        asked = dict.fromkeys(node_ids, instruction)
        for reply in self._courier.ask(ADVERTISE, asked, timeout=self._timeout):
            index = self._sender(reply)
            if index is None:
                continue
            if reply.answer.status == REFUSED:
                refusals.by_policy[index] = reply.answer.code
                self._book.refused(index, reply.answer.code)
            elif index not in refusals.excluded and self._take(index, reply, core.on_advertise):
                refusals.by_policy.pop(index, None)
                nodes[index] = reply.node_id
        return nodes

    def _sender(self, reply: Reply) -> int | None:
        """Return whose answer this claims to be; the signature is checked by the core."""
        if self._courier.sees_absence:
            return reply.node_id
        try:
            return peek(reply.answer.payload).sender if reply.answer.status == OK else None
        except TouchstoneError:
            return None

    def _exchange(
        self, action: str, requests: dict[int, bytes], nodes: dict[int, int]
    ) -> Iterable[tuple[int, Reply]]:
        index_of = {nodes[index]: index for index in requests}
        instructions = {nodes[index]: Instruction(payload=requests[index]) for index in requests}
        for reply in self._courier.ask(action, instructions, timeout=self._timeout):
            yield index_of[reply.node_id], reply

    def _take(self, index: int, reply: Reply, accept: Accept) -> bool:
        """Hand an answer to the core; a bad one costs the member its place, nothing else."""
        if reply.answer.status != OK:
            answer = reply.answer
            self._book.event(
                "session.member_failed", member=index, code=answer.code, text=answer.text
            )
            return False
        try:
            accept(index, reply.answer.payload)
        except TouchstoneError as error:
            self._book.event("session.bad_message", member=index, code=error.code)
            return False
        return True
