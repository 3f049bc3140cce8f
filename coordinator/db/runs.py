"""Runs, their rounds and refusals, and releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from coordinator.db.records import Refusal, Release, Round, Run, RunState
from coordinator.db.tables import RefusalRow, ReleaseRow, RoundRow, RunRow
from shared.errors import NotFound, StateError

_FOLLOWS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.SETUP, RunState.ABORTED, RunState.FAILED}),
    RunState.SETUP: frozenset({RunState.RUNNING, RunState.ABORTED, RunState.FAILED}),
    # A new secure-sum session in mid-run goes through set-up again.
    RunState.RUNNING: frozenset(
        {RunState.SETUP, RunState.RELEASING, RunState.ABORTED, RunState.FAILED}
    ),
    RunState.RELEASING: frozenset({RunState.COMPLETED, RunState.ABORTED, RunState.FAILED}),
    RunState.COMPLETED: frozenset(),
    RunState.ABORTED: frozenset(),
    RunState.FAILED: frozenset(),
}


def _run(row: RunRow) -> Run:
    return Run(**{**row.model_dump(), "state": RunState(row.state)})


def _round(row: RoundRow) -> Round:
    values = row.model_dump()
    lists = {name: tuple(values[name]) for name in ("listed", "participants", "survivors")}
    return Round(**{**values, **lists})


class RunRepo:
    """Training runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run: Run) -> None:
        """Write a new run; raises :class:`StateError` if its id is taken."""
        if self._session.get(RunRow, run.run_id) is not None:
            raise StateError(f"the run {run.run_id} exists already")
        self._session.add(RunRow(**{**asdict(run), "state": run.state.value}))
        self._session.flush()

    def _row(self, run_id: str) -> RunRow:
        row = self._session.get(RunRow, run_id)
        if row is None:
            raise NotFound(
                f"there is no run {run_id!r}", hint="touchstone-coordinator run list shows them"
            )
        return row

    def get(self, run_id: str) -> Run:
        """Return a run; raises :class:`NotFound`."""
        return _run(self._row(run_id))

    def all(self) -> list[Run]:
        """Return every run, oldest first."""
        rows = self._session.exec(select(RunRow).order_by(col(RunRow.created_at), RunRow.run_id))
        return [_run(row) for row in rows]

    def unfinished(self) -> list[Run]:
        """Return the runs without a terminal state, oldest first."""
        return [run for run in self.all() if not run.state.terminal]

    def ended(self) -> list[Run]:
        """Return the runs with a terminal state, in the order in which they ended."""
        found = [run for run in self.all() if run.state.terminal]
        return sorted(found, key=lambda run: run.ended_at or run.created_at)

    def resolve(self, prefix: str) -> Run:
        """Return the one run whose id begins with ``prefix``.

        Raises:
            NotFound: none does, or more than one.
        """
        query = select(RunRow).where(col(RunRow.run_id).startswith(prefix, autoescape=True))
        found = list(self._session.exec(query)) if prefix else []
        if len(found) != 1:
            many = "more than one run" if found else "no run"
            raise NotFound(f"there is {many} whose id begins with {prefix!r}")
        return _run(found[0])

    def advance(
        self, run_id: str, state: RunState, at: datetime, *, reason_code: str = "", reason: str = ""
    ) -> Run:
        """Move a run on; the state it is already in is accepted and changes nothing.

        Raises:
            NotFound: there is no such run.
            StateError: the state cannot follow, above all because the run has ended.
        """
        row = self._row(run_id)
        before = RunState(row.state)
        if state is before:
            return _run(row)
        if state not in _FOLLOWS[before]:
            raise StateError(f"a run that is {before} cannot become {state}")
        row.state, row.reason_code, row.reason = state.value, reason_code, reason
        if state is RunState.SETUP and row.started_at is None:
            row.started_at = at
        if state.terminal:
            row.ended_at = at
        self._session.flush()
        return _run(row)

    def set_manifest(self, run_id: str, manifest: bytes) -> None:
        """Store the signed manifest of a run; raises :class:`NotFound`."""
        self._row(run_id).manifest = manifest
        self._session.flush()

    def set_round(self, run_id: str, number: int) -> None:
        """Note the round a run has reached; raises :class:`NotFound`."""
        self._row(run_id).current_round = number
        self._session.flush()

    def set_release(self, run_id: str, release_id: str) -> None:
        """Note the release a run ended in; raises :class:`NotFound`."""
        self._row(run_id).release_id = release_id
        self._session.flush()


class RoundRepo:
    """Attempts at rounds, and refusals."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, value: Round) -> None:
        """Write one attempt, over an earlier version of the same attempt."""
        self._session.merge(RoundRow(**asdict(value)))
        self._session.flush()

    def change(self, run_id: str, number: int, attempt: int, **changes: Any) -> Round:
        """Change fields of one attempt and return it; raises :class:`NotFound`."""
        row = self._session.get(RoundRow, (run_id, number, attempt))
        if row is None:
            raise NotFound(f"the run {run_id} has no round {number}, attempt {attempt}")
        value = replace(_round(row), **changes)
        self.put(value)
        return value

    def of_run(self, run_id: str) -> list[Round]:
        """Return every attempt of a run, in order."""
        query = (
            select(RoundRow)
            .where(RoundRow.run_id == run_id)
            .order_by(col(RoundRow.round), col(RoundRow.attempt))
        )
        return [_round(row) for row in self._session.exec(query)]

    def refuse(self, refusal: Refusal) -> None:
        """Write a member's refusal, over an earlier one of the same run."""
        self._session.merge(RefusalRow(**asdict(refusal)))
        self._session.flush()

    def agreed(self, run_id: str, members: Sequence[int]) -> None:
        """Take back the refusals of members that have agreed since."""
        for index in members:
            row = self._session.get(RefusalRow, (run_id, index))
            if row is not None:
                self._session.delete(row)
        self._session.flush()

    def refusals(self, run_id: str) -> list[Refusal]:
        """Return the refusals of a run that stand, by member index."""
        query = (
            select(RefusalRow)
            .where(RefusalRow.run_id == run_id)
            .order_by(col(RefusalRow.member_index))
        )
        return [Refusal(**row.model_dump()) for row in self._session.exec(query)]


class ReleaseRepo:
    """Released bundles, in the order of their sequence numbers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, release: Release) -> None:
        """Write a release; raises :class:`StateError` if its id, run or sequence is taken."""
        taken = self._session.exec(
            select(ReleaseRow).where(
                (col(ReleaseRow.release_id) == release.release_id)
                | (col(ReleaseRow.run_id) == release.run_id)
                | (col(ReleaseRow.sequence) == release.sequence)
            )
        ).first()
        if taken is not None:
            raise StateError("this release, or one of the same run or sequence, exists already")
        self._session.add(ReleaseRow(**asdict(release)))
        self._session.flush()

    def next_sequence(self) -> int:
        """Return one more than the highest sequence number so far, from 1."""
        highest = self._session.exec(select(func.max(ReleaseRow.sequence))).one()
        return int(highest or 0) + 1

    def get(self, release_id: str) -> Release:
        """Return a release; raises :class:`NotFound`."""
        row = self._session.get(ReleaseRow, release_id)
        if row is None:
            raise NotFound(f"there is no release {release_id!r}")
        return Release(**row.model_dump())

    def of_run(self, run_id: str) -> Release | None:
        """Return the release of a run, or nothing."""
        row = self._session.exec(select(ReleaseRow).where(ReleaseRow.run_id == run_id)).first()
        return None if row is None else Release(**row.model_dump())

    def all(self) -> list[Release]:
        """Return every release, oldest first."""
        rows = self._session.exec(select(ReleaseRow).order_by(col(ReleaseRow.sequence)))
        return [Release(**row.model_dump()) for row in rows]

    def latest(self) -> Release | None:
        """Return the newest release, or nothing."""
        found = self.all()
        return found[-1] if found else None
