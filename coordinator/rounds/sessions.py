"""Keeps a session open that has a free slot and everyone in it who can take part."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from coordinator.rounds.context import RunContext
from coordinator.rounds.errors import RunFailed, TooFewNow
from coordinator.rounds.setup import Refusals, Session, SessionSetup
from coordinator.rounds.waiting import ask_waiting
from shared.fleet.refusals import NOT_YET, OF_THE_ROUND
from shared.secagg import Coordinator, SetupOutcome
from shared.secagg.errors import TooFew
from shared.trust.session import session_terms

MAX_BACK_OFF_S = 60.0
MAX_PATIENCE_ROUNDS = 64
_GREETING_POLL_S = 0.25


class SessionKeeper:
    """Opens, renews and drops the sessions of one run."""

    def __init__(self, context: RunContext) -> None:
        self._run = context
        self._refusals = Refusals(excluded=set(context.journal.excluded()))
        self._session: Session | None = None
        # A member that could not be set up is waited for in fewer and fewer rounds.
        self._retry_round: dict[int, int] = {}
        self._patience: dict[int, int] = {}

    def usable(self, number: int, *, wait: bool = True) -> Session:
        """Return a session for round ``number``, set up anew if somebody waits to get in.

        Raises:
            TooFewNow: there is none and, without ``wait``, there will be no second try.
            RunFailed: so many members refused, or were excluded, that the run can never reach
                its cohort.
        """
        pause = 1.0
        while True:
            self._run.check_stop()
            self._check_refusals()
            self._ask_waiting(number)
            if self._session is None or self._waiting(number) or not self._session.core.slots_left:
                self._renew(number)
            if self._session is not None and self._session.core.slots_left:
                return self._session
            if not wait:
                raise TooFewNow("no session could be set up")
            self._run.courier.pause(pause)
            pause = min(MAX_BACK_OFF_S, 2 * pause)

    def _renew(self, number: int) -> None:
        """Try to set up a session; without enough members around, the former one stays open."""
        self._await_members()
        asked = self._askable() - self._refusals.waiting
        if len(asked) < self._run.manifest.secure_sum.n_min:
            return
        try:
            self._open(number, sorted(asked))
        except (TooFew, TooFewNow) as error:
            self._run.book.event("session.too_few", code=error.code)

    def _open(self, number: int, asked: list[int]) -> None:
        run = self._run
        ordinal = run.journal.checkpoint().session + 1
        run.journal.count_session(ordinal)
        terms = session_terms(run.verified, secrets.token_bytes(16), ordinal, run.group)
        core = Coordinator.begin(terms=terms, signing_key=run.key)
        self.drop()  # members that answer close the former session for good
        self._refusals.forget_final()
        setup = SessionSetup(
            run.courier, run.book, run.signed_manifest, run.manifest.timeouts.setup_s
        )
        try:
            session, outcome = setup.run(core, asked, self._refusals)
        finally:
            self._check_refusals()
        self._exclude(outcome)
        run.journal.save_session(core.dump_setup())
        self._session = session
        self._be_patient(number, frozenset(asked) - session.confirmed)
        run.book.opened(ordinal, sorted(session.confirmed))

    def _exclude(self, outcome: SetupOutcome) -> None:
        self.exclude(outcome.excluded)
        if not outcome.usable:
            self._run.book.event("session.complaints", excluded=list(outcome.excluded))
            raise TooFewNow("members complained about each other's boxes")

    def _check_refusals(self) -> None:
        refused, excluded = self._refusals.final, self._refusals.excluded
        possible = len(self._run.listed() - refused - excluded)
        needed = self._run.manifest.secure_sum.n_min
        if possible < needed:
            out = f", {len(excluded)} are excluded" if excluded else ""
            raise RunFailed(
                "too_few_members",
                f"{len(refused)} members refused the run{out}; {needed} are needed, {possible} "
                "are left",
                hint="`run show` lists the reason codes, `audit show` complaints and cheats",
            )

    # -- who is there -----------------------------------------------------------------------

    def _ask_waiting(self, number: int) -> None:
        """Ask members that could not say yes so far; whoever agrees is let in, others wait on.

        Asking costs one short exchange with them alone, not a session.
        """
        due = self._askable() & self._refusals.waiting
        if self._session is not None:
            due = frozenset(i for i in due if self._retry_round.get(i, 0) <= number)
        if not due or not self._run.courier.sees_absence:
            return
        agreed, silent = ask_waiting(self._run, due, self._refusals)
        for index in agreed:
            self._retry_round.pop(index, None)
            self._patience.pop(index, None)
        if self._session is not None and (back := agreed & self._session.confirmed):
            self._run.book.agreed(sorted(back))
        self._be_patient(number, silent)
        self._check_refusals()

    def _askable(self) -> frozenset[int]:
        here = self._run.courier.reachable()
        if not self._run.courier.sees_absence:
            return here
        return (here & self._run.listed()) - self._refusals.excluded

    def choose(self, session: Session) -> list[int]:
        """Return who can take part in a round of ``session``: is here, and has not said no."""
        here, refused = self._run.courier.reachable(), self._refusals.by_policy
        return sorted(i for i in session.confirmed if session.nodes[i] in here and i not in refused)

    def refused(self, told: Mapping[int, str]) -> None:
        """Leave members that said no in a round out of the next ones.

        Args:
            told: reason code by member index.
        """
        for index, code in told.items():
            asked_again = self._run.courier.sees_absence  # otherwise nobody would ever ask it
            if code not in OF_THE_ROUND and (asked_again or code not in NOT_YET):
                self._refusals.by_policy[index] = code

    def _waiting(self, number: int) -> bool:
        """Tell whether a listed member is here, not in the session, and due for another try."""
        if self._session is None or not self._run.courier.sees_absence:
            return False
        outside = self._askable() - self._session.confirmed - set(self._refusals.by_policy)
        return any(self._retry_round.get(index, 0) <= number for index in outside)

    def _be_patient(self, number: int, missing: frozenset[int]) -> None:
        for index in missing:
            wait = min(MAX_PATIENCE_ROUNDS, 2 * self._patience.get(index, 0) or 1)
            self._patience[index] = wait
            self._retry_round[index] = number + wait

    def _await_members(self) -> None:
        """Give listed members a moment to connect before the run's first session."""
        run = self._run
        if run.journal.checkpoint().session or not run.courier.sees_absence:
            return
        waited = 0.0
        while waited < run.manifest.timeouts.setup_s and not run.listed() <= self._askable():
            run.courier.pause(_GREETING_POLL_S)
            waited += _GREETING_POLL_S

    def exclude(self, members: Iterable[int]) -> None:
        """Set up no later session of the run with ``members``, also after a restart."""
        self._run.journal.exclude(members)
        self._refusals.excluded.update(members)

    # -- end and resume ---------------------------------------------------------------------

    def drop(self) -> None:
        """Close the open session, if any."""
        self._session = None
        self._run.journal.close_session()

    def resume(self) -> Session | None:
        """Take up the session that a killed coordinator left open, with its open round.

        Only where node ids are roster indices; elsewhere a restarted run opens a new session.
        """
        setup = self._run.journal.session()
        if setup is None or not self._run.courier.sees_absence:
            return None
        state, accumulator = self._run.journal.round() or (b"", b"")
        core = Coordinator.load(
            signing_key=self._run.key, setup=setup, round_state=state, accumulator=accumulator
        )
        confirmed = frozenset(core.confirmed)
        self._session = Session(core, {index: index for index in confirmed}, confirmed)
        return self._session
