"""Are the records, the audit log, the model and the privacy budget in order?

Told in words and codes only: nothing here says how many records this member has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


SEGMENTS_S = 10.0
"""For comparing stored records with their digests, unless all of them are asked for."""


def check_records(state_dir: Path, clock: Clock, *, deep: bool = False) -> Iterator[Check]:
    """Yield what there is to say about the database, and what rests on it.

    Args:
        state_dir: the member's state folder.
        clock: decides how old a verdict on the records is.
        deep: compare every segment with its digest, however long it takes.

    A database that is damaged or of another version is not opened: opening would migrate it.
    """
    found = attempt("database", lambda: check_database(state_dir))
    yield from found
    on_top: dict[str, Callable[[Path, Clock], Check]] = {
        "segments": partial(check_segments, deep=deep),
        "audit": check_audit,
        "data": check_contract,
        "budget": check_budget,
        "releases": check_releases,
    }
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


def check_segments(state_dir: Path, clock: Clock, *, deep: bool = False) -> Check:
    """Check that the stored records are, byte for byte, what was written."""
    with _opened(state_dir, clock) as store:
        if deep:
            store.records.verify()
        elif not store.records.verify_some(SEGMENTS_S):
            told = f"what was looked at in {SEGMENTS_S:.0f} s is as it was written"
            return Check("segments", Status.OK, "ok", told, "--deep looks at everything")
    return ok("segments", "the stored records are as they were written")


def check_audit(state_dir: Path, clock: Clock) -> Check:
    """Check the chain of this node's audit log."""
    with _opened(state_dir, clock) as store:
        store.audit.verify()
    return ok("audit", "the audit log's chain holds")


def check_contract(state_dir: Path, clock: Clock) -> Check:
    """Check whether the records may train, by the data contract."""
    with _opened(state_dir, clock) as store:
        report = contract_of(store, table_of(store), keep=False)
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


def check_releases(state_dir: Path, clock: Clock) -> Check:
    """Check what became of releases since the model that runs began to, as the audit log has it.

    One that was judged and kept back is in order, and worth a word; one that was refused is not.
    """
    kept: set[str] = set()
    refused: set[str] = set()
    with _opened(state_dir, clock) as store:
        for event in store.audit.events():
            if event.kind in ("model.activate", "model.rollback"):
                kept.clear()
                refused.clear()
            elif event.kind == "model.keep":
                kept.add(str(event.body["reason"]))
            elif event.kind == "model.refused":
                refused.add(str(event.body["code"]))
    if refused:
        codes = ", ".join(sorted(refused))
        text = f"a release was refused since the model that runs began to: {codes}"
        return warn("releases", "release_refused", text, "audit show names it; tell the operator")
    if kept:
        text = f"a later release was judged and kept back: {', '.join(sorted(kept))}"
        hint = "touchstone-participant model list, then model show RELEASE"
        return Check("releases", Status.OK, "release_kept", text, hint)
    return ok("releases", "no later release was kept back or refused")


def check_model(state_dir: Path) -> Check:
    """Check the model that runs: file, signature, feature space."""
    model = active_model(state_dir)
    if model is None:
        text = "no model runs yet, so nothing can be scored"
        return warn("model", "no_model", text, "take part in a run, or activate a release")
    return ok("model", f"{model.release_id[:12]} verifies, for {model.kind}")
