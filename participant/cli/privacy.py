"""`privacy ledger|project`: what training has cost this member's records, and what a run would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shared.console import JsonFlag, emit, say
from shared.errors import BadInput, Exit
from shared.limits import MAX_RUN_ROUNDS
from shared.privacy.terms import DELTA_UNIT, MAX_DELTA, MAX_EPSILON

privacy = typer.Typer(
    help="What training has cost in privacy, and what a run would.", no_args_is_help=True
)
StateDir = Annotated[
    Path, typer.Option("--dir", help="The node's state folder.", envvar="TOUCHSTONE_DIR")
]


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(privacy, name="privacy")


@privacy.command("ledger")
def ledger(
    state_dir: StateDir,
    run: Annotated[str, typer.Option(help="Only this run, or those it begins with.")] = "",
    as_json: bool = JsonFlag,
) -> None:
    """Show what each run was charged, and what everything together has spent."""
    from participant.node.policy import POLICY_FILE, load_policy
    from participant.privacy.statement import statement
    from participant.store import Store

    policy = load_policy(state_dir / POLICY_FILE)
    store = Store.open(state_dir, create=False)
    try:
        told = statement(store.ledger.entries(), policy.privacy_delta, policy.privacy_budget, run)
    finally:
        store.close()
    emit(told.data(), as_json=as_json, text="\n".join(told.lines()))


@privacy.command("project")
def project(
    state_dir: StateDir,
    epsilon: Annotated[float, typer.Option(help="Of the whole run.")] = 8.0,
    delta: Annotated[float, typer.Option(help="Of the whole run.")] = 1e-5,
    rounds: Annotated[int, typer.Option(help="Training rounds.")] = 10,
    steps: Annotated[int, typer.Option(help="Noisy steps a round.")] = 3,
    evaluations: Annotated[int, typer.Option(help="Rounds that evaluate.")] = 2,
    as_json: bool = JsonFlag,
) -> None:
    """Say what such a run would cost; exit code 8 when it would exceed the budget."""
    from participant.node.policy import POLICY_FILE, load_policy
    from participant.node.reasons import REASONS
    from participant.privacy.projection import planned_charges, project_charges
    from participant.store import Store

    _check_plan(epsilon, delta, rounds, evaluations)
    policy = load_policy(state_dir / POLICY_FILE)
    store = Store.open(state_dir, create=False)
    try:
        spent = store.ledger.charges()
    finally:
        store.close()
    charges = planned_charges(epsilon, delta, rounds, steps, evaluations)
    found = project_charges(charges, spent, policy.privacy_delta, delta)
    within = found.total <= policy.privacy_budget
    data: dict[str, Any] = {
        "run_epsilon": round(found.run, 4),
        "spent_epsilon": round(found.spent, 4),
        "total_epsilon": round(found.total, 4),
        "budget": policy.privacy_budget,
        "delta": policy.privacy_delta,
        "within_budget": within,
        "reason": "" if within else "privacy_budget",
    }
    text = (
        f"the run: ε {found.run:.2f} at δ {delta:g}\n"
        f"spent so far: ε {found.spent:.2f} of {policy.privacy_budget:g} at δ "
        f"{policy.privacy_delta:g}, {found.total:.2f} with the run"
    )
    emit(data, as_json=as_json, text=text)
    if not within:
        why = REASONS["privacy_budget"]
        say(f"error: {why.text}\nhint: {why.remedy}")
        raise typer.Exit(int(Exit.POLICY))


def _check_plan(epsilon: float, delta: float, rounds: int, evaluations: int) -> None:
    """Refuse what `run start` would not start, before anything is worked out for it."""
    if not 0 < epsilon <= MAX_EPSILON:
        raise BadInput(f"--epsilon lies above 0 and up to {MAX_EPSILON:g}")
    if not DELTA_UNIT < delta <= MAX_DELTA:
        raise BadInput(f"--delta lies above {DELTA_UNIT:g} and up to {MAX_DELTA:g}")
    if not 1 <= rounds <= MAX_RUN_ROUNDS:
        raise BadInput(f"--rounds lies between 1 and {MAX_RUN_ROUNDS:,}")
    if not 0 <= evaluations <= rounds:
        raise BadInput("--evaluations lies between 0 and the number of rounds")
