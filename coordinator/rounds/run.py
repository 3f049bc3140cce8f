"""A run from its first session to its release; resumes where a killed coordinator left it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.db.records import RunState
from coordinator.registry.models import ReleaseDraft
from coordinator.registry.publish import publish
from coordinator.rounds.book import Attempt
from coordinator.rounds.context import RunContext
from coordinator.rounds.ending import tell_end
from coordinator.rounds.errors import RoundBurnt, RunAborted, RunFailed, RunStopped, TooFewNow
from coordinator.rounds.evaluation import alliance_metrics
from coordinator.rounds.following import made_by
from coordinator.rounds.grouped import GroupedRounds
from coordinator.rounds.journal import Checkpoint, Journal
from coordinator.rounds.private_plan import stated_epsilon
from coordinator.rounds.record import burnt_record, summed_record
from coordinator.rounds.round import RoundExchange
from coordinator.rounds.sessions import MAX_BACK_OFF_S, SessionKeeper
from coordinator.rounds.setup import Session
from shared.errors import InternalError, StateError
from shared.secagg import RoundSum, check_sum
from shared.secagg.errors import SumRejected
from shared.trust.round_record import RoundRecord
from shared.trust.session import round_layout
from shared.trust.transcript import Transcript


class RunDriver:
    """Drives one run on one grid to exactly one terminal state."""

    def __init__(self, context: RunContext) -> None:
        self._run = context
        self._sessions = SessionKeeper(context)
        self._mean: NDArray[np.float32] | None = None

    def execute(self) -> None:
        """Bring the run to its terminal state.

        Returns early, without one, only when the process is shutting down.
        """
        release_id = b""
        try:
            self._train()
            release_id = self._release()
        except RunStopped:
            return
        except RunAborted:
            pass  # the operator's command has written the state
        except RunFailed as error:
            self._run.book.advance(RunState.FAILED, error.reason, error.message)
        else:
            self._run.book.advance(RunState.COMPLETED)
        self._tell_end(release_id)

    # -- training ---------------------------------------------------------------------------

    def _train(self) -> None:
        run = self._run
        if not run.journal.begun:
            Journal.create(run.journal.folder, run.signed_manifest, run.settings.first_model())
        if run.book.run().state is RunState.RELEASING:
            return
        run.book.advance(RunState.SETUP)
        if run.manifest.grouped:
            self._train_in_groups(GroupedRounds(run))
        else:
            self._train_together()
        if run.journal.checkpoint().trained == 0:
            raise RunFailed("nothing_trained", "no round of the run could be summed")

    def _train_in_groups(self, groups: GroupedRounds) -> None:
        groups.resume()
        while (number := self._run.journal.checkpoint().round + 1) <= self._run.manifest.rounds:
            groups.one_round(number)
        groups.drop()

    def _train_together(self) -> None:
        self._resume()
        while (number := self._run.journal.checkpoint().round + 1) <= self._run.manifest.rounds:
            self._one_round(number)

    def _one_round(self, number: int) -> None:
        """Bring one round number to its end, summed or burnt, however many tries it takes."""
        pause = 1.0
        while True:
            session = self._sessions.usable(number)
            self._run.book.advance(RunState.RUNNING)
            if self._attempt(session, number):
                return
            self._run.courier.pause(pause)
            pause = min(MAX_BACK_OFF_S, 2 * pause)

    def _attempt(self, session: Session, number: int) -> bool:
        """Try a round once; false when too few members took part."""
        chosen = self._sessions.choose(session)
        if len(chosen) < self._run.manifest.secure_sum.n_min:
            return False
        attempt = self._run.book.next_attempt(number)
        self._run.book.open_attempt(
            attempt,
            session=session.core.terms.session_id.hex(),
            listed=session.core.terms.indices,
            participants=tuple(chosen),
        )
        exchange = RoundExchange.of(self._run, session)
        try:
            result = exchange.run(attempt, chosen, self._run.model())
        except TooFewNow:
            self._run.book.close_attempt(attempt, "abandoned")
            return False
        except RoundBurnt as error:
            self._burn(session, attempt, exchange, error)
            return True
        finally:
            session.confirmed -= exchange.sessionless
            self._sessions.refused(exchange.refused)
        self._finish(session, attempt, result, exchange)
        return True

    def _finish(
        self, session: Session, attempt: Attempt, result: RoundSum, exchange: RoundExchange
    ) -> None:
        """Check the sum, apply it, and make the next model durable."""
        run = self._run
        layout = round_layout(run.manifest, result.round)
        quantiser = session.core.terms.quantiser
        try:
            survivors = len(result.survivors)
            opened = check_sum(result.vector, layout, survivors, quantiser, out=self._mean)
        except SumRejected as error:
            run.book.event("round.rejected", code=error.code)
            self._burn(session, attempt, exchange, RoundBurnt(error.message))
            return
        session.core.take_back(result)
        self._mean = opened.mean
        model = run.model()
        following = made_by(model, opened.mean)
        record = summed_record(result, session.core, run.journal, attempt, model, following)
        # Once the round is over in the journal, nothing that is kept yields its figures again.
        epsilon = run.manifest.evaluation.epsilon_milli / 1000
        run.book.change_attempt(attempt, metrics=alliance_metrics(opened, epsilon))
        run.journal.finish_round(result.round, following, record.encode())
        run.journal.save_round(session.core.dump_round())
        run.book.close_attempt(attempt, "summed")

    def _burn(
        self, session: Session, attempt: Attempt, exchange: RoundExchange, error: RoundBurnt
    ) -> None:
        facts = exchange.facts
        if facts is None:
            raise InternalError("a round was burnt before its survivors were fixed")
        run = self._run
        # First, since once the round is over nothing says who cheated in it.
        self._sessions.exclude(exchange.culprits)
        record = burnt_record(facts, session.core, run.journal, attempt, run.model())
        run.journal.burn_round(attempt.round, record.encode())
        self._end_burnt(attempt)
        self._check_burnt_twice(f": {error.message}")

    def _end_burnt(self, attempt: Attempt) -> None:
        """Do what is left once the journal says that the round was burnt; may be repeated.

        The try stays open to the last: after a crash it says that the session is the burnt one.
        """
        self._run.journal.forget_masked(attempt.round)
        self._sessions.drop()
        self._run.book.close_attempt(attempt, "burnt")

    def _check_burnt_twice(self, why: str = "") -> None:
        if self._run.journal.checkpoint().burnt_in_a_row >= 2:
            raise RunFailed(
                "burnt_twice",
                f"two rounds in a row gave no usable sum{why}",
                hint="run again with half of the members to find out whose vectors are wrong",
            )

    # -- resume -----------------------------------------------------------------------------

    def _resume(self) -> None:
        """Finish or abandon the round that a killed coordinator left open."""
        run, attempt = self._run, self._run.book.last_attempt()
        before = run.journal.checkpoint()
        session = self._sessions.resume()
        survivors = session.core.open_survivors if session else ()
        if session and survivors and attempt and attempt.round == before.round + 1:
            run.book.event("run.resumed", round=attempt.round, step="unmask")
            run.book.advance(RunState.RUNNING)
            self._finish_left_over(session, attempt, survivors)
            return
        if session:
            session.core.abandon_slot()
            run.journal.save_round(session.core.dump_round())
        if attempt is not None:
            run.book.event("run.resumed", round=attempt.round, step="mask")
            self._close_left_over(attempt, before)
        self._check_burnt_twice()

    def _close_left_over(self, attempt: Attempt, journal: Checkpoint) -> None:
        """End a try that a killed coordinator left open as the journal says that it ended."""
        if attempt.round > journal.round:
            self._run.book.close_attempt(attempt, "abandoned")
        elif journal.burnt_in_a_row:
            self._end_burnt(attempt)
        else:
            self._run.book.close_attempt(attempt, "summed")

    def _finish_left_over(
        self, session: Session, attempt: Attempt, survivors: tuple[int, ...]
    ) -> None:
        exchange = RoundExchange.of(self._run, session)
        try:
            result = exchange.unmask(survivors)
        except RoundBurnt as error:
            self._burn(session, attempt, exchange, error)
        else:
            self._finish(session, attempt, result, exchange)
        self._sessions.refused(exchange.refused)

    # -- release ----------------------------------------------------------------------------

    def _release(self) -> bytes:
        run = self._run
        if run.book.run().state is RunState.SETUP:  # killed between the last round and here
            run.book.advance(RunState.RUNNING)
        run.book.advance(RunState.RELEASING)
        self._sessions.drop()
        draft = ReleaseDraft(
            run_id=run.manifest.run_id,
            run_manifest_hash=run.verified.hash,
            kind=run.manifest.kind,
            spec=run.spec,
            vector=run.model(),
            transcript=self._transcript(),
            metrics=run.book.metrics(),
            epsilon=stated_epsilon(run.manifest),
        )
        try:
            return publish(run.database, run.directory, draft, signing_key=run.key)
        except StateError as error:
            raise RunFailed("release", error.message) from error

    def _transcript(self) -> Transcript:
        transcript = Transcript.start(self._run.manifest.run_id, self._run.verified.hash)
        for record in self._run.journal.transcript():
            transcript = transcript.append(RoundRecord.decode(record))
        return transcript

    def _tell_end(self, release_id: bytes) -> None:
        """Tell every listed member that the run is over.

        A process that is killed before this has told them does so when it is back, see `serve`.
        """
        self._sessions.drop()
        run = self._run
        nodes = run.listed() if run.courier.sees_absence else run.courier.reachable()
        tell_end(run.courier, run.verified, nodes, release_id, run.database.clock.now())
