"""The ledger for people: a line a run, and one for everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from participant.privacy.accounting import epsilon_of
from participant.store.models import PrivacyCharge
from participant.store.registers import charge_of
from shared.clock import rfc3339


@dataclass(frozen=True)
class RunSpent:
    """What one run has cost so far.

    Attributes:
        run_id: in hex.
        first_at: time of the first charge.
        vectors: masked updates charged, retries included.
        unprotected: of those, how many carried no noise for records: no epsilon bounds them.
        evaluations: evaluations charged.
        epsilon: of what carried noise.
    """

    run_id: str
    first_at: str
    vectors: int
    unprotected: int
    evaluations: int
    epsilon: float


@dataclass(frozen=True)
class Statement:
    """What the ledger says.

    Attributes:
        runs: those asked for, oldest first.
        epsilon: of everything noisy in the whole ledger, composed.
        delta: of the policy.
        budget: of the policy.
        unprotected: updates in the whole ledger that no epsilon bounds.
    """

    runs: tuple[RunSpent, ...]
    epsilon: float
    delta: float
    budget: float
    unprotected: int

    def data(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for people."""
        lines = [
            f"{run.first_at}  {run.run_id[:8]}  {run.vectors} updates, {run.evaluations} "
            f"evaluations  ε {run.epsilon:.2f}"
            + (f"  ({run.unprotected} updates without record noise)" if run.unprotected else "")
            for run in self.runs
        ]
        total = f"spent: ε {self.epsilon:.2f} of {self.budget:g} at δ {self.delta:g}"
        if self.unprotected:
            total += f"; besides, {self.unprotected} updates that no epsilon bounds"
        return [*lines, total]


def statement(
    rows: Iterable[PrivacyCharge], delta: float, budget: float, run: str = ""
) -> Statement:
    """Return the statement of a ledger.

    Args:
        rows: all of it, oldest first.
        delta: at which it is composed.
        budget: the policy's.
        run: only runs whose id begins so are listed; totals are always of everything.
    """
    everything = list(rows)
    by_run: dict[str, list[PrivacyCharge]] = {}
    for row in everything:
        by_run.setdefault(row.run_id, []).append(row)
    listed = [_spent(one, delta) for name, one in by_run.items() if name.startswith(run.lower())]
    return Statement(
        tuple(listed),
        epsilon_of(map(charge_of, everything), delta),
        delta,
        budget,
        sum(row.mechanism == "none" for row in everything),
    )


def _spent(rows: list[PrivacyCharge], delta: float) -> RunSpent:
    training = [row for row in rows if row.kind == "training"]
    return RunSpent(
        rows[0].run_id,
        rfc3339(rows[0].at),
        len(training),
        sum(row.mechanism == "none" for row in training),
        len(rows) - len(training),
        epsilon_of(map(charge_of, rows), delta),
    )
