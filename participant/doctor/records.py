"""Are the records, the audit log, the model and the privacy budget in order?

Told in words and codes only: nothing here says how many records this member has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from participant.contract import contract_of, table_of
from participant.deployment.active import active_model
from participant.node.policy import load_policy
from participant.privacy.accounting import epsilon_of
from participant.store import Store
from participant.store.database import SCHEMA_HEAD
from shared.clock import Clock
from shared.doctor.report import Check, Status, attempt, fail, ok, skipped, warn
from shared.doctor.sqlite_file import check_integrity, check_schema

DATABASE = Path("store") / "touchstone.db"
INDEX = Path("store") / "index.db"

LOW = 0.9
"""Share of a budget from which somebody should know: a few runs before the node refuses."""


def check_records(state_dir: Path, clock: Clock) -> Iterator[Check]:
    """Yield what there is to say about the database, and what rests on it.

    A database that is damaged or of another version is not opened: opening would migrate it.
    """
    found = attempt("database", lambda: check_database(state_dir))
    yield from found
    on_top = {"audit": check_audit, "data": check_contract, "budget": check_budget}
    for name, check in on_top.items():
        if all(one.status is Status.OK for one in found):
            yield from attempt(name, partial(check, state_dir, clock))
        else:
            yield skipped(name, f"not looked at: {found[-1].text}")


def check_database(state_dir: Path) -> Check:
    """Check both SQLite files as they lie there, before anything opens them for writing."""
    hint = "touchstone-participant data import"
    if not (state_dir / DATABASE).exists():
        return warn("database", "no_records", "nothing has been imported yet", hint)
    for path in (DATABASE, INDEX):
        if (state_dir / path).exists():
            check_integrity(state_dir / path)
    return check_schema(state_dir / DATABASE, SCHEMA_HEAD, hint)


@contextmanager
def _opened(state_dir: Path, clock: Clock) -> Iterator[Store]:
    store = Store.open(state_dir, clock=clock, create=False)
    try:
        yield store
    finally:
        store.close()


def check_audit(state_dir: Path, clock: Clock) -> Check:
    """Check the chain of this node's audit log."""
    with _opened(state_dir, clock) as store:
        store.audit.verify()
    return ok("audit", "the audit log's chain holds")


def check_contract(state_dir: Path, clock: Clock) -> Check:
    """Check whether the records may train, by the data contract."""
    with _opened(state_dir, clock) as store:
        report = contract_of(store, table_of(store))
    if not report.holds:
        codes = sorted({one.code for one in report.findings if one.level == "fail"})
        text = f"the records may not train: {', '.join(codes)}"
        return fail("data", "data_contract", text, "touchstone-participant data check shows why")
    if report.findings:
        text = "the records may train, with remarks"
        hint = "touchstone-participant data check shows them"
        return warn("data", "data_remarks", text, hint)
    return ok("data", "the records may train")


def check_budget(state_dir: Path, clock: Clock) -> Check:
    """Check what is left of both privacy budgets; the figures are this member's own."""
    policy = load_policy(state_dir / "policy.toml")
    with _opened(state_dir, clock) as store:
        spent = epsilon_of(store.ledger.charges(), policy.privacy_delta)
        rows = store.ledger.entries()
    evaluations = sum(row.amount for row in rows if row.kind == "evaluation")
    budgets = (
        ("privacy_budget", policy.privacy_budget, spent),
        ("evaluation_epsilon_budget", policy.evaluation_epsilon_budget, evaluations),
    )
    told = ", ".join(f"{used:.2f} of {budget:g} spent ({name})" for name, budget, used in budgets)
    hint = "touchstone-participant privacy ledger shows what was spent on what"
    shares = [used / budget for _, budget, used in budgets if budget]  # 0: never to be spent
    if any(share >= 1 for share in shares):
        return fail("budget", "budget_spent", told, hint)
    if any(share >= LOW for share in shares):
        return warn("budget", "budget_low", told, hint)
    return ok("budget", told)


def check_model(state_dir: Path) -> Check:
    """Check the model that runs: file, signature, feature space."""
    model = active_model(state_dir)
    if model is None:
        text = "no model runs yet, so nothing can be scored"
        return warn("model", "no_model", text, "take part in a run, or activate a release")
    return ok("model", f"{model.release_id[:12]} verifies, for {model.kind}")
