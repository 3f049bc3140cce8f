"""Rounds of a run in groups: a secure sum in each, at the same time; their sums make the round.

A round is over once half of the groups were summed and every other one has had its try. A group
with too few members sits the round out; one whose sum is refused burns it for itself alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from coordinator.db.records import RunState
from coordinator.rounds.book import Attempt, Tally
from coordinator.rounds.context import RunContext
from coordinator.rounds.desk import GroupDesk
from coordinator.rounds.errors import RunFailed
from coordinator.rounds.evaluation import alliance_metrics
from coordinator.rounds.following import made_by
from coordinator.rounds.sessions import MAX_BACK_OFF_S
from shared.errors import InternalError
from shared.secagg.groups import combine, quorum
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.transcript import model_sha256


class GroupedRounds:
    """Drives the rounds of a run whose manifest deals its members out to groups."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._halt = threading.Event()
        self._tally = Tally()
        self._open: Attempt | None = None
        self._desks = tuple(
            GroupDesk(run.for_group(number, self._tally, self._halt.is_set))
            for number in range(1, len(run.manifest.groups) + 1)
        )
        self._needed = quorum(len(self._desks))

    def resume(self) -> None:
        """Bring every group to a safe point after a restart, and finish what was released."""
        done = self._run.journal.checkpoint().round
        for desk in self._desks:
            desk.close(done)
        attempt = self._run.book.last_attempt()
        if attempt is None:
            self._check_burnt_twice()
            return
        self._run.book.event("run.resumed", round=attempt.round, step="groups")
        if attempt.round <= done:
            burnt = self._run.journal.checkpoint().burnt_in_a_row
            self._run.book.close_attempt(attempt, "burnt" if burnt else "summed")
            self._check_burnt_twice()
            return
        self._run.book.advance(RunState.RUNNING)
        self._open, model = attempt, self._run.model()
        self._everywhere(self._desks, lambda desk: desk.resume(attempt, model))

    def one_round(self, number: int) -> None:
        """Bring one round number to its end, summed or burnt, however many tries it takes.

        Raises:
            RunFailed: too many groups are out of the run for any round to be summed.
        """
        pause = 1.0
        while not self._settled(number):
            if self._open is not None:
                self._run.book.close_attempt(self._open, "abandoned")
                self._open = None
            if self._tried(number):
                self._run.courier.pause(pause)
                pause = min(MAX_BACK_OFF_S, 2 * pause)
            self._try(number)

    def drop(self) -> None:
        """Close every group's session."""
        for desk in self._desks:
            desk.drop()

    # -- one try ----------------------------------------------------------------------------

    def _tried(self, number: int) -> bool:
        return self._run.book.next_attempt(number).attempt > 1

    def _try(self, number: int) -> None:
        """Let every group without a part try the round once, all at the same time."""
        run = self._run
        run.check_stop()
        waiting = [desk for desk in self._desks if not desk.closed and not desk.part(number)]
        run.book.advance(RunState.RUNNING)
        attempt = self._open = run.book.next_attempt(number)
        members = sorted(frozenset().union(*(desk.members for desk in waiting)))
        self._tally.begin()
        run.book.open_attempt(attempt, listed=tuple(members), participants=tuple(members))
        model = run.model()
        self._everywhere(waiting, lambda desk: desk.attempt(attempt, model))

    def _everywhere(self, desks: Sequence[GroupDesk], step: Callable[[GroupDesk], None]) -> None:
        """Run a step in every group at once; the first error ends it in the others as well."""
        first: BaseException | None = None
        with ThreadPoolExecutor(max(1, len(desks)), thread_name_prefix="group") as pool:
            futures = [pool.submit(self._guarded, desk, step) for desk in desks]
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and first is None:
                    first = error
                    self._halt.set()
        if first is not None:
            raise first

    def _guarded(self, desk: GroupDesk, step: Callable[[GroupDesk], None]) -> None:
        """Run a step; a group that refuses the run is out of it, and the others go on."""
        try:
            step(desk)
        except RunFailed as error:
            if error.reason != "too_few_members":
                raise
            desk.refused = True
            self._run.book.event("group.refused", group=desk.number)

    # -- the end of a round -----------------------------------------------------------------

    def _settled(self, number: int) -> bool:
        """End the round if it can be ended; tell whether it was."""
        parts = {desk: record for desk in self._desks if (record := desk.part(number))}
        summed = [d for d, record in parts.items() if record.outcome is not Outcome.BURNT]
        if len(summed) >= self._needed:
            self._finish(number, parts, summed)
            return True
        possible = sum(not desk.closed for desk in self._desks if desk not in parts)
        if len(summed) + possible >= self._needed:
            return False
        if not parts:
            raise RunFailed(
                "too_few_groups",
                f"{possible} groups are left of {len(self._desks)}; {self._needed} make a round",
                hint="`run show` lists refusals, `audit show` the groups that were closed",
            )
        self._burn(number, parts)
        return True

    def _finish(
        self, number: int, parts: dict[GroupDesk, RoundRecord], summed: list[GroupDesk]
    ) -> None:
        """Combine the groups' sums, apply them, and make the next model durable."""
        run, attempt = self._run, self._attempt()
        opened = combine((desk.opened(parts[desk]) for desk in summed), run.manifest.robust)
        following = made_by(run.model(), opened.mean)
        ends = model_sha256(following)
        records = {
            desk.number: replace(
                record,
                outcome=Outcome.SUMMED if desk in summed else record.outcome,
                next_model_sha256=ends,
            ).encode()
            for desk, record in parts.items()
        }
        survivors = sorted(index for desk in summed for index in parts[desk].survivors)
        epsilon = run.manifest.evaluation.epsilon_milli / 1000
        # Once the round is over in the journal, nothing that is kept yields its figures again.
        run.book.change_attempt(
            attempt, survivors=tuple(survivors), metrics=alliance_metrics(opened, epsilon)
        )
        run.journal.finish_round(number, following, records)
        self._close(number)
        run.book.close_attempt(attempt, "summed")

    def _burn(self, number: int, parts: dict[GroupDesk, RoundRecord]) -> None:
        """End a round that too few groups were summed in; the model stays as it is."""
        run = self._run
        records = {desk.number: record.encode() for desk, record in parts.items()}
        attempt = self._attempt()
        run.journal.burn_round(number, records)
        self._close(number)
        run.book.close_attempt(attempt, "burnt")
        self._check_burnt_twice()

    def _check_burnt_twice(self) -> None:
        if self._run.journal.checkpoint().burnt_in_a_row >= 2:
            raise RunFailed("burnt_twice", "two rounds in a row gave usable sums in too few groups")

    def _attempt(self) -> Attempt:
        attempt, self._open = self._open, None
        if attempt is None:
            raise InternalError("a round ended that nobody had begun")
        return attempt

    def _close(self, number: int) -> None:
        for desk in self._desks:
            desk.close(number)
