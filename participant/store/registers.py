"""Small registers beside the records: privacy spent, deployments decided, runs answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from sqlmodel import col, select

from participant.privacy.accounting import Charge, Mechanism
from participant.store.database import Database
from participant.store.models import DeploymentRow, PrivacyCharge, RunConsent
from shared.clock import Clock
from shared.errors import StateError

Action = Literal["activate", "keep", "rollback"]
ChargeKind = Literal["training", "evaluation"]
Decision = Literal["accepted", "pending", "refused"]


class PrivacyLedger:
    """What masked vectors have cost in privacy; append-only.

    A charge is durable (SQLite, ``synchronous = full``) when :meth:`charge` returns. It is written
    before the vector is masked, so a crash in between can count too much and never too little.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def charge(
        self, run_id: str, round_number: int, slot: str, kind: ChargeKind, charge: Charge
    ) -> PrivacyCharge:
        """Write down one charge; the same slot and kind again changes nothing.

        Args:
            run_id: the run, in hex.
            round_number: from 1.
            slot: names the one vector that may leave; a retry takes another.
            kind: what the records were used for.
            charge: the mechanism and its amount.

        Raises:
            StateError: this run, slot and kind is on record with another charge.
        """
        with self._database.transaction() as session:
            row = session.exec(
                select(PrivacyCharge).where(
                    PrivacyCharge.run_id == run_id,
                    PrivacyCharge.slot == slot,
                    PrivacyCharge.kind == kind,
                )
            ).first()
            if row is None:
                row = PrivacyCharge(
                    run_id=run_id,
                    round=round_number,
                    slot=slot,
                    kind=kind,
                    mechanism=charge.mechanism,
                    amount=charge.amount,
                    at=self._clock.now(),
                )
                session.add(row)
            elif (row.round, charge_of(row)) != (round_number, charge):
                raise StateError(f"slot {slot} is in the privacy ledger otherwise")
            return row

    def entries(self, run_id: str | None = None) -> list[PrivacyCharge]:
        """Return all charges, or those of one run, oldest first."""
        query = select(PrivacyCharge).order_by(col(PrivacyCharge.id))
        if run_id is not None:
            query = query.where(PrivacyCharge.run_id == run_id)
        with self._database.reading() as session:
            return list(session.exec(query))

    def has(self, run_id: str, slot: str) -> bool:
        """Tell whether a slot's vector has been charged."""
        return any(row.slot == slot for row in self.entries(run_id))

    def charges(self, *, without: str = "") -> list[Charge]:
        """Return every charge but those of the run ``without``, ready to be composed."""
        return [charge_of(row) for row in self.entries() if row.run_id != without]


def charge_of(row: PrivacyCharge) -> Charge:
    """Return what a row of the ledger costs.

    Raises:
        BadInput: the row says what no mechanism costs.
    """
    return Charge(cast(Mechanism, row.mechanism), row.amount)


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
