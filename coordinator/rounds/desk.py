"""One group's part of a run in groups: its own sessions, and what came of the open round there.

A part is a round record and, where there is one, the group's sum. It is on disk before the group's
slot is closed, and stays until the round is over in all groups, so that no group is ever asked to
release a round twice because another one was not ready.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds.book import Attempt
from coordinator.rounds.context import RunContext
from coordinator.rounds.errors import RoundBurnt, TooFewNow
from coordinator.rounds.record import burnt_record, summed_record
from coordinator.rounds.round import RoundExchange
from coordinator.rounds.sessions import SessionKeeper
from coordinator.rounds.setup import Session
from shared.errors import InternalError
from shared.secagg import OpenedSum, RoundSum, check_sum
from shared.secagg.errors import SumRejected
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.session import round_layout, session_terms

MAX_BURNT_IN_A_ROW = 2
"""Rounds burnt in a row after which a group's members are not asked any more: each costs them
privacy budget, and one of them masks what does not add up."""


class GroupDesk:
    """Brings one group through the rounds.

    Args:
        run: the run as this group sees it.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._sessions = SessionKeeper(run)
        self.refused = False

    @property
    def number(self) -> int:
        """The group's number."""
        return self._run.group

    @property
    def members(self) -> frozenset[int]:
        """The group's members."""
        return self._run.listed()

    @property
    def closed(self) -> bool:
        """Whether nothing more can come of the group in this run."""
        burnt = self._run.journal.checkpoint().burnt_in_a_row
        return self.refused or burnt >= MAX_BURNT_IN_A_ROW

    def part(self, number: int) -> RoundRecord | None:
        """Return what came of round ``number`` in this group, or None so far.

        The record of a sum says ``UNUSED`` until the round is over.
        """
        data = self._run.journal.part()
        record = None if data is None else RoundRecord.decode(data)
        return record if record is not None and record.round == number else None

    def opened(self, record: RoundRecord) -> OpenedSum:
        """Return the group's sum of the open round, checked again."""
        terms = session_terms(self._run.verified, record.session_id, 1, self.number)
        layout = round_layout(self._run.manifest, record.round)
        total = self._run.journal.part_sum()
        return check_sum(total, layout, len(record.survivors), terms.quantiser)

    def attempt(self, attempt: Attempt, model: NDArray[np.float32]) -> None:
        """Try the round once; no part comes of it if too few take part.

        Raises:
            RunFailed: so many members of the group refused that it can never reach its cohort.
        """
        run = self._run
        try:
            session = self._sessions.usable(attempt.round, wait=False)
        except TooFewNow:
            return
        chosen = self._sessions.choose(session)
        if len(chosen) < run.manifest.secure_sum.n_min:
            return
        exchange = RoundExchange.of(self._run, session)
        try:
            result = exchange.run(attempt, chosen, model)
        except TooFewNow:
            return
        except RoundBurnt:
            self._burn(session, attempt, exchange, model)
            return
        finally:
            session.confirmed -= exchange.sessionless
            self._sessions.refused(exchange.refused)
        self._keep(session, attempt, exchange, result, model)

    def resume(self, attempt: Attempt, model: NDArray[np.float32]) -> None:
        """Finish or abandon what a killed coordinator left open in this group."""
        session = self._sessions.resume()
        if session is None:
            return
        survivors, part = session.core.open_survivors, self.part(attempt.round)
        if part is not None and part.outcome is Outcome.BURNT:
            self._end_burnt(attempt)
            return
        if not survivors or part is not None:
            session.core.abandon_slot()
            self._run.journal.save_round(session.core.dump_round())
            return
        exchange = RoundExchange.of(self._run, session)
        try:
            result = exchange.unmask(survivors)
        except RoundBurnt:
            self._burn(session, attempt, exchange, model)
        else:
            self._keep(session, attempt, exchange, result, model)
        self._sessions.refused(exchange.refused)

    def close(self, number: int) -> None:
        """End round ``number`` here, now that its records are in the run's journal."""
        record = self.part(number)
        if record is not None:
            self._run.journal.close_part(number, burnt=record.outcome is Outcome.BURNT)
            if self.closed:
                self._run.book.event("group.closed", rounds=MAX_BURNT_IN_A_ROW)

    def drop(self) -> None:
        """Close the group's session, if one is open."""
        self._sessions.drop()

    def _keep(
        self,
        session: Session,
        attempt: Attempt,
        exchange: RoundExchange,
        result: RoundSum,
        model: NDArray[np.float32],
    ) -> None:
        """Check the group's sum and make it durable; then the slot may be forgotten."""
        layout = round_layout(self._run.manifest, result.round)
        quantiser = session.core.terms.quantiser
        try:
            check_sum(result.vector, layout, len(result.survivors), quantiser)
        except SumRejected as error:
            self._run.book.event("round.rejected", code=error.code)
            self._burn(session, attempt, exchange, model)
            return
        journal = self._run.journal
        record = summed_record(result, session.core, journal, attempt, model, model)
        record = replace(record, outcome=Outcome.UNUSED, group=self.number)
        journal.save_part(record.encode(), result.vector)
        journal.save_round(session.core.dump_round())

    def _burn(
        self,
        session: Session,
        attempt: Attempt,
        exchange: RoundExchange,
        model: NDArray[np.float32],
    ) -> None:
        if exchange.facts is None:
            raise InternalError("a round was burnt before its survivors were fixed")
        journal = self._run.journal
        # First, since once there is a part nothing says who cheated in it.
        self._sessions.exclude(exchange.culprits)
        record = burnt_record(exchange.facts, session.core, journal, attempt, model)
        journal.save_part(replace(record, group=self.number).encode())
        self._end_burnt(attempt)

    def _end_burnt(self, attempt: Attempt) -> None:
        """Do what is left once the group's part says that it burnt the round; repeatable."""
        self._run.journal.forget_masked(attempt.round)
        self._sessions.drop()
