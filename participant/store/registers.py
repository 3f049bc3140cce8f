"""Small registers beside the records: privacy spent, deployments decided, runs answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlmodel import col, select

from participant.store.database import Database
from participant.store.models import DeploymentRow, PrivacySpend, RunConsent
from shared.clock import Clock
from shared.errors import BadInput, StateError

Action = Literal["activate", "keep", "rollback"]
Decision = Literal["accepted", "pending", "refused"]


class PrivacyLedger:
    """What training has cost in (epsilon, delta); append-only."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def spend(
        self, run_id: str, round_number: int, kind: str, epsilon: float, delta: float
    ) -> PrivacySpend:
        """Write down one spend; the same spend again changes nothing (a retried round).

        Raises:
            BadInput: the amounts are negative or not finite, or delta is above 1.
            StateError: this run, round and kind is on record with other amounts.
        """
        if not (0 <= epsilon < float("inf") and 0 <= delta <= 1):
            raise BadInput("privacy is spent in finite epsilon >= 0 and delta in [0, 1]")
        with self._database.transaction() as session:
            row = session.exec(
                select(PrivacySpend).where(
                    PrivacySpend.run_id == run_id,
                    PrivacySpend.round == round_number,
                    PrivacySpend.kind == kind,
                )
            ).first()
            if row is None:
                row = PrivacySpend(
                    run_id=run_id,
                    round=round_number,
                    kind=kind,
                    epsilon=epsilon,
                    delta=delta,
                    at=self._clock.now(),
                )
                session.add(row)
            elif (row.epsilon, row.delta) != (epsilon, delta):
                raise StateError(f"round {round_number} is in the privacy ledger otherwise")
            return row

    def entries(self, run_id: str | None = None) -> list[PrivacySpend]:
        """Return all spends, or those of one run, oldest first."""
        query = select(PrivacySpend).order_by(col(PrivacySpend.id))
        if run_id is not None:
            query = query.where(PrivacySpend.run_id == run_id)
        with self._database.reading() as session:
            return list(session.exec(query))

    def total(self, run_id: str | None = None) -> tuple[float, float]:
        """Return summed (epsilon, delta): basic composition, an upper bound."""
        rows = self.entries(run_id)
        return sum(row.epsilon for row in rows), sum(row.delta for row in rows)


class Deployments:
    """Every decision about a release, and which one is in force."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(
        self, release_id: str, action: Action, reason: str, metrics: Mapping[str, Any]
    ) -> DeploymentRow:
        """Write down one decision with the local figures it rests on."""
        with self._database.transaction() as session:
            row = DeploymentRow(
                release_id=release_id,
                action=action,
                reason=reason,
                metrics=dict(metrics),
                at=self._clock.now(),
            )
            session.add(row)
            session.flush()
            return row

    def history(self) -> list[DeploymentRow]:
        """Return all decisions, oldest first."""
        with self._database.reading() as session:
            return list(session.exec(select(DeploymentRow).order_by(col(DeploymentRow.id))))

    def current(self) -> DeploymentRow | None:
        """Return the last decision that changed the running model, or None."""
        changes = [row for row in self.history() if row.action != "keep"]
        return changes[-1] if changes else None


class Consents:
    """What this member answered to each run's manifest; the last answer stands."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, run_id: str, decision: Decision, reason_code: str) -> RunConsent:
        """Write down an answer; earlier ones to the same run remain in the audit log only."""
        with self._database.transaction() as session:
            answer = RunConsent(
                run_id=run_id, decision=decision, reason_code=reason_code, at=self._clock.now()
            )
            return session.merge(answer)

    def get(self, run_id: str) -> RunConsent | None:
        """Return the answer given to a run, or None."""
        with self._database.reading() as session:
            return session.get(RunConsent, run_id)

    def entries(self) -> list[RunConsent]:
        """Return all answers, oldest first."""
        with self._database.reading() as session:
            return list(session.exec(select(RunConsent).order_by(col(RunConsent.at))))
