"""What the operator sees of a run: its state, rounds, refusals and audit events in the database."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.db import Database
from coordinator.db.records import Refusal, Round, Run, RunState


@dataclass(frozen=True)
class Attempt:
    """Which try at which round."""

    round: int
    attempt: int


class RunBook:
    """One run's rows; every call is one transaction.

    Args:
        database: the coordinator's.
        run_id: 16 bytes.
    """

    def __init__(self, database: Database, run_id: bytes) -> None:
        self._db = database
        self._id = run_id.hex()

    @property
    def _now(self) -> Any:
        return self._db.clock.now()

    def run(self) -> Run:
        """Return the run as it stands."""
        return self._db.read("read_run", lambda unit: unit.runs.get(self._id))

    def advance(self, state: RunState, reason_code: str = "", reason: str = "") -> None:
        """Move the run on and say so in the audit log; the state it is in changes nothing."""
        if self.run().state is state:
            return

        def work(unit: Any) -> None:
            unit.runs.advance(self._id, state, self._now, reason_code=reason_code, reason=reason)
            body = {"run_id": self._id, "state": state.value, "reason_code": reason_code}
            unit.audit.append("run.state", body)

        self._db.write("advance_run", work)

    def refused(self, index: int, reason_code: str) -> None:
        """Note that a member said no; saying the same again is not noted."""

        def work(unit: Any) -> None:
            told = {item.member_index: item.reason_code for item in unit.rounds.refusals(self._id)}
            if told.get(index) == reason_code:
                return
            unit.rounds.refuse(Refusal(self._id, index, reason_code, self._now))
            body = {"run_id": self._id, "member": index, "reason_code": reason_code}
            unit.audit.append("run.refused", body)

        self._db.write("note_refusal", work)

    def agreed(self, members: Sequence[int]) -> None:
        """Take back the refusals of members that go on in a session they are in already."""
        self._db.write("agree", lambda unit: unit.rounds.agreed(self._id, members))

    def opened(self, ordinal: int, members: Sequence[int]) -> None:
        """Note that a session was set up; its members' earlier refusals no longer stand."""

        def work(unit: Any) -> None:
            unit.rounds.agreed(self._id, members)
            body = {"run_id": self._id, "ordinal": ordinal, "members": list(members)}
            unit.audit.append("session.opened", body)

        self._db.write("open_session", work)

    def event(self, kind: str, **body: Any) -> None:
        """Add an audit event about this run."""
        self._db.write(
            "audit_run", lambda unit: unit.audit.append(kind, {"run_id": self._id, **body})
        )

    def next_attempt(self, number: int) -> Attempt:
        """Return the next try at a round."""
        rounds = self._db.read("read_rounds", lambda unit: unit.rounds.of_run(self._id))
        tries = [item.attempt for item in rounds if item.round == number]
        return Attempt(number, max(tries, default=0) + 1)

    def open_attempt(self, attempt: Attempt, **fields: Any) -> None:
        """Begin a try at a round."""
        row = Round(
            self._id, attempt.round, attempt.attempt, "masking", started_at=self._now, **fields
        )

        def work(unit: Any) -> None:
            unit.rounds.put(row)
            unit.runs.set_round(self._id, attempt.round)

        self._db.write("open_round", work)

    def change_attempt(self, attempt: Attempt, **fields: Any) -> None:
        """Change a try at a round."""
        self._db.write(
            "change_round",
            lambda unit: unit.rounds.change(self._id, attempt.round, attempt.attempt, **fields),
        )

    def close_attempt(self, attempt: Attempt, state: str) -> None:
        """End a try: ``summed``, ``abandoned`` or ``burnt``; figures stay with a sum alone."""
        fields: dict[str, Any] = {"state": state, "ended_at": self._now}
        if state != "summed":
            fields["metrics"] = {}
        self.change_attempt(attempt, **fields)

    def last_attempt(self) -> Attempt | None:
        """Return the newest try that has not ended, after a restart."""
        rounds = self._db.read("read_rounds", lambda unit: unit.rounds.of_run(self._id))
        open_ones = [item for item in rounds if item.ended_at is None]
        return Attempt(open_ones[-1].round, open_ones[-1].attempt) if open_ones else None

    def metrics(self) -> Mapping[str, float]:
        """Return the newest alliance-wide evaluation, with the round it was made in."""
        rounds = self._db.read("read_rounds", lambda unit: unit.rounds.of_run(self._id))
        measured = [item for item in rounds if item.metrics]
        if not measured:
            return {}
        return {**measured[-1].metrics, "evaluated_in_round": float(measured[-1].round)}


class Tally:
    """Adds up what the groups of a run report of the try at hand. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Start over, for another try."""
        with self._lock:
            self._survivors: set[int] = set()
            self._bytes = {"bytes_up": 0, "bytes_down": 0}

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a group's fields with those of the groups before it added."""
        with self._lock:
            self._survivors |= set(fields.get("survivors", ()))
            for name in self._bytes:
                self._bytes[name] += fields.get(name, 0)
            return {**fields, "survivors": tuple(sorted(self._survivors)), **self._bytes}


class GroupBook(RunBook):
    """A run's rows as one of its groups writes them: events name it, a try is everybody's."""

    def __init__(self, database: Database, run_id: bytes, group: int, tally: Tally) -> None:
        super().__init__(database, run_id)
        self._group = group
        self._tally = tally

    def event(self, kind: str, **body: Any) -> None:
        """Add an audit event about this group."""
        super().event(kind, group=self._group, **body)

    def change_attempt(self, attempt: Attempt, **fields: Any) -> None:
        """Change the try that all groups share."""
        super().change_attempt(attempt, **self._tally.add(fields))
