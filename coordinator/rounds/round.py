"""One round: masked vectors in, survivors fixed, shares back, sum out.

The order of writing and acting is the protocol's promise (docs: the secure sum, Resume): nothing
is sent that a restarted coordinator would not know it had sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds.book import Attempt, RunBook
from coordinator.rounds.context import RunContext
from coordinator.rounds.courier import NO_REPLY, Courier, Reply
from coordinator.rounds.errors import RoundBurnt, TooFewNow
from coordinator.rounds.journal import Journal
from coordinator.rounds.setup import Session
from shared.errors import InternalError, TouchstoneError
from shared.fleet.exchange import MASKED, OK, REFUSED, RELEASE, UNMASK, Answer, Instruction
from shared.secagg import RoundFacts, RoundSum
from shared.secagg.errors import InconsistentDealer, SumRejected, TooFew
from shared.trust.manifest import RunManifest
from shared.trust.session import round_config, round_layout
from shared.trust.transcript import model_sha256

UNMASK_PATIENCE = 10
"""Times ``unmask_s`` that released members are asked again before the round is burnt."""

SESSIONLESS = ("secagg_slot_closed", "no_session")
"""Failure codes of a member that needs a new session before it can take part again."""

WORTH_ASKING_AGAIN = (NO_REPLY, InternalError.code)
"""Failure codes of a member that may well answer the same request in a moment."""


class RoundExchange:
    """Runs one round of one session.

    Args:
        courier: the way to the members.
        journal: written before every act.
        book: what the operator sees.
        manifest: the run's.
        session: the open session.
        keep_masked: whether the journal keeps the masked vectors.

    Attributes:
        sessionless: members that turned out to need a new session.
        refused: reason code by member index, of those whose policy said no in the round.
        culprits: members proven to have dealt shares of something they did not commit to.
        facts: the round once its survivors were fixed, for the transcript of a burnt one.
    """

    def __init__(
        self,
        courier: Courier,
        journal: Journal,
        book: RunBook,
        manifest: RunManifest,
        session: Session,
        *,
        keep_masked: bool = False,
    ) -> None:
        self._courier = courier
        self._journal = journal
        self._book = book
        self._manifest = manifest
        self._session = session
        self._keep_masked = keep_masked
        self.sessionless: set[int] = set()
        self.refused: dict[int, str] = {}
        self.culprits: set[int] = set()
        self._final: set[int] = set()
        self._told: set[tuple[int, str, str]] = set()
        self.facts: RoundFacts | None = None

    @classmethod
    def of(cls, run: RunContext, session: Session) -> RoundExchange:
        """Return an exchange of a run's session."""
        return cls(
            run.courier,
            run.journal,
            run.book,
            run.manifest,
            session,
            keep_masked=run.settings.keep_masked,
        )

    def run(
        self, attempt: Attempt, participants: Iterable[int], model: NDArray[np.float32]
    ) -> RoundSum:
        """Open a slot for ``participants`` and bring the round to its sum.

        Raises:
            TooFewNow: too few uploaded; the slot is abandoned, the round may be tried again.
            RoundBurnt: shares were given, but no sum came of them.
        """
        core, number = self._session.core, attempt.round
        chosen = sorted(participants)
        request = core.open_round(
            number,
            chosen,
            model_sha256(model),
            round_config(self._manifest, number),
            round_layout(self._manifest, number).words,
        )
        self._journal.save_round(core.dump_round())
        self._journal.forget_masked(number)
        up = self._collect_masked(attempt, request, chosen, model)
        try:
            survivors = core.close_masked()
        except TooFew as error:
            core.abandon_slot()
            self._journal.save_round(core.dump_round())
            raise TooFewNow(error.message) from error
        self._journal.save_sum(core.accumulator())
        self._journal.save_round(core.dump_round())
        self._book.change_attempt(
            attempt,
            state="unmasking",
            survivors=tuple(survivors),
            bytes_up=up,
            bytes_down=len(chosen) * (model.nbytes + len(request)),
        )
        return self.unmask(survivors)

    def _collect_masked(
        self, attempt: Attempt, request: bytes, chosen: list[int], model: NDArray[np.float32]
    ) -> int:
        times = self._manifest.timeouts
        received = 0
        for index, reply in self._ask(
            MASKED,
            Instruction(payload=request, model=model),
            chosen,
            timeout=times.mask_s,
            away_s=times.away_s,
            group=str(attempt.round),
        ):
            received += self._take_masked(attempt, index, reply.answer)
            del reply  # its vector is in the sum: not to be held while the next one is decoded
        return received

    def _take_masked(self, attempt: Attempt, index: int, answer: Answer) -> int:
        """Add one masked vector to the sum; return its bytes, 0 for one that is not usable."""
        header, vector = answer.payload, answer.vector
        if answer.status != OK or vector is None:
            self._not_given(index, "masked", answer)
            return 0
        try:
            self._session.core.on_masked(index, header, vector)
        except TouchstoneError as error:
            self._lost(index, "masked", error.code)
            return 0
        if self._keep_masked:
            self._journal.keep_masked(attempt.round, index, vector)
        return vector.nbytes + len(header)

    def unmask(self, survivors: Iterable[int]) -> RoundSum:
        """Ask for shares until the sum can be opened; also how a restarted round goes on.

        Raises:
            RoundBurnt: too few answered in time, a dealer cheated, or the sum is impossible.
        """
        core, alive = self._session.core, sorted(survivors)
        self.facts = core.round_facts()
        deadline = time.monotonic() + UNMASK_PATIENCE * self._manifest.timeouts.unmask_s
        while not core.can_finish:
            if time.monotonic() > deadline:
                raise RoundBurnt("too few members answered the unmask request in time")
            if len(set(alive) - self._final) < core.terms.threshold:
                raise RoundBurnt("too many members refused to unmask the round")
            if not core.needs_release or not core.can_release:
                self._unmask_step(
                    UNMASK, core.unmask_request(), alive, core.on_unmask, self._unmask_done
                )
            if core.needs_release and core.can_release:
                request = core.release_request()
                # The certificate chosen: after a restart the very same one must be sent.
                self._journal.save_round(core.dump_round())
                self._unmask_step(
                    RELEASE,
                    request,
                    alive,
                    core.on_release,
                    lambda: core.can_finish,
                )
        self.facts = core.round_facts()
        try:
            return core.finish_round()
        except (InconsistentDealer, SumRejected) as error:
            self._book.event("round.rejected", code=error.code, culprit=error.culprit)
            if error.culprit is not None:
                self.culprits.add(error.culprit)
            raise RoundBurnt(error.message) from error

    def _unmask_done(self) -> bool:
        core = self._session.core
        return core.can_release if core.needs_release else core.can_finish

    def _unmask_step(
        self,
        action: str,
        request: bytes,
        alive: list[int],
        accept: Callable[[int, bytes], None],
        done: Callable[[], bool],
    ) -> None:
        timeout = self._manifest.timeouts.unmask_s
        asked = time.monotonic()
        replies = self._ask(
            action, Instruction(payload=request), alive, timeout=timeout, enough=done
        )
        for index, reply in replies:
            if reply.answer.status != OK:
                self._not_given(index, action, reply.answer)
                if reply.answer.code not in WORTH_ASKING_AGAIN:
                    self._final.add(index)  # the same request gets the same answer
                continue
            try:
                accept(index, reply.answer.payload)
            except TouchstoneError as error:
                self._lost(index, action, error.code)
                continue
            self._journal.save_round(self._session.core.dump_round())
        if not done():
            # Everyone has answered, yet not enough: do not ask again in a tight loop.
            self._courier.pause(max(0.0, 1.0 - (time.monotonic() - asked)))

    def _ask(
        self,
        action: str,
        instruction: Instruction,
        members: Iterable[int],
        *,
        timeout: float,
        away_s: float | None = None,
        group: str = "",
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterable[tuple[int, Reply]]:
        nodes = self._session.nodes
        index_of = {nodes[index]: index for index in members if index in nodes}
        replies = self._courier.ask(
            action,
            dict.fromkeys(index_of, instruction),
            timeout=timeout,
            away_s=away_s,
            group=group,
            enough=enough,
        )
        # Not a generator: its frame would hold each reply's vector until the next one is there.
        return map(lambda reply: (index_of[reply.node_id], reply), replies)  # noqa: C417

    def _not_given(self, index: int, step: str, answer: Answer) -> None:
        """Note that a member gave nothing, and whether that was a decision of its own."""
        if answer.status == REFUSED:
            self.refused[index] = answer.code
            self._book.refused(index, answer.code)
        self._lost(index, step, answer.code)

    def _lost(self, index: int, step: str, code: str) -> None:
        if code in SESSIONLESS:
            self.sessionless.add(index)
        if (index, step, code) not in self._told:  # asking again gets one entry, not hundreds
            self._told.add((index, step, code))
            self._book.event("round.member_lost", member=index, step=step, code=code)
