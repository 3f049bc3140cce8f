"""`run start|watch|list|show|audit|abort`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from coordinator.audit.run_audit import audit_run
from coordinator.cli.options import DryRun, StateDir, opened
from coordinator.db import Database
from coordinator.db.records import Refusal, Round, Run, RunState
from coordinator.enrolment.service import roster
from coordinator.rounds.launch import abort_run, start_run
from coordinator.rounds.plan import RunSettings, choose_members, planned_groups, secure_sum_terms
from coordinator.rounds.private_plan import warnings
from shared.clock import rfc3339
from shared.console import JsonFlag, emit, err, out, say
from shared.errors import BadInput, Exit
from shared.fleet.refusals import NOT_YET
from shared.privacy.terms import RATE, STEPS
from shared.progress import counting
from shared.trust.names import check_purpose

runs = typer.Typer(help="Start, watch and inspect training runs.", no_args_is_help=True)
POLL_S = 0.25

RunId = Annotated[str, typer.Argument(help="The run's id, or as many first digits as are unique.")]


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(runs, name="run")


@runs.command("start")
def start(
    state_dir: StateDir,
    rounds: Annotated[int, typer.Option(help="Training rounds.")] = 10,
    purpose: Annotated[
        str, typer.Option(help="What for; members allow purposes by name.")
    ] = "counterfeit-detection",
    kind: Annotated[str, typer.Option(help="listing or shop.")] = "listing",
    member: Annotated[
        list[str] | None, typer.Option(help="Ask this member; repeat. Default: all active ones.")
    ] = None,
    hash_bits: Annotated[int, typer.Option(help="Rows of the hashed space: 2 to this power.")] = 16,
    max_colluders: Annotated[
        int | None, typer.Option(help="Members that may side with you. Default: a third, less 1.")
    ] = None,
    n_min: Annotated[int | None, typer.Option(help="Fewest members summed.")] = None,
    local_epochs: Annotated[int, typer.Option(help="Passes over local data a round.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Local SGD step.")] = 0.3,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 32,
    weighting: Annotated[str, typer.Option(help="uniform or bucketed.")] = "uniform",
    full_weight_rows: Annotated[
        int, typer.Option(help="With bucketed: rows from which a member weighs 1.")
    ] = 2000,
    evaluate_every: Annotated[int, typer.Option(help="Rounds between evaluations.")] = 5,
    evaluation_epsilon: Annotated[float, typer.Option(help="Epsilon of each evaluation.")] = 1.0,
    dp_epsilon: Annotated[
        float | None, typer.Option(help="Protect single records: epsilon of the whole run.")
    ] = None,
    dp_delta: Annotated[float, typer.Option(help="With --dp-epsilon: delta.")] = 1e-5,
    dp_steps: Annotated[int, typer.Option(help="With --dp-epsilon: noisy steps a round.")] = STEPS,
    dp_rate: Annotated[float, typer.Option(help="With --dp-epsilon: their rate.")] = RATE,
    dp_rows: Annotated[
        int | None,
        typer.Option(help="With --dp-epsilon: rows that count in full. Default: by epsilon."),
    ] = None,
    min_holdout: Annotated[int, typer.Option(help="Smaller hold-outs send pure noise.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the first model.")] = 0,
    setup_s: Annotated[int, typer.Option(help="Seconds a set-up step may take.")] = 30,
    mask_s: Annotated[int, typer.Option(help="Seconds a member may train.")] = 3600,
    away_s: Annotated[
        int, typer.Option(help="Seconds a round waits for members that are gone.")
    ] = 60,
    unmask_s: Annotated[int, typer.Option(help="Seconds an unmask step may take.")] = 60,
    expires_hours: Annotated[int, typer.Option(help="Lifetime of the manifest.")] = 72,
    keep_masked: Annotated[
        bool, typer.Option("--keep-masked", help="Keep masked vectors, for `run audit`.")
    ] = False,
    groups: Annotated[
        int | None, typer.Option(help="Groups of 40 to 64. Default: one up to 64 members.")
    ] = None,
    robust: Annotated[
        str, typer.Option(help="mean or median-of-groups: how groups are combined.")
    ] = "mean",
    draw_s: Annotated[
        int, typer.Option(help="Seconds each step of drawing the groups waits for members.")
    ] = 600,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the settings.")] = False,
    as_json: bool = JsonFlag,
) -> None:
    """Sign a run manifest and hand it to `serve`; returns at once with the run's id."""
    check_purpose(purpose)
    fields = {name: value for name, value in locals().items() if name in RunSettings.model_fields}
    try:
        settings = RunSettings.model_validate({**fields, "members": tuple(member or ())})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise BadInput(f"--{option}: {first['msg'].lower()}") from error
    for warning in warnings(settings):
        say(f"warning: {warning}")
    with opened(state_dir) as db:
        if dry_run:
            _check(db, settings, as_json)
            return
        run_id = start_run(state_dir, db, settings)
    say(f"`touchstone-coordinator run watch {run_id[:8]} --dir {state_dir}` follows it")
    emit({"run_id": run_id}, as_json=as_json, text=run_id)


def _check(db: Database, settings: RunSettings, as_json: bool) -> None:
    members = choose_members(settings, roster(db))
    groups = planned_groups(settings, len(members))
    sums = secure_sum_terms(settings, -(-len(members) // groups))
    data = {
        "members": [item.member_id for item in members],
        "groups": groups,
        "threshold": sums.threshold,
        "n_min": sums.n_min,
        "max_colluders": sums.max_colluders,
    }
    emit(data, as_json=as_json, text="\n".join(f"{name}: {data[name]}" for name in data))


@runs.command("abort")
def abort(
    run: RunId,
    state_dir: StateDir,
    reason: Annotated[str, typer.Option(help="Why; members and the audit log see it.")] = "",
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """End a run without a release."""
    with opened(state_dir) as db:
        found = db.read("find_run", lambda unit: unit.runs.resolve(run))
        if dry_run:
            result = "already_ended" if found.state.terminal else "would_abort"
        else:
            result = "aborted" if abort_run(db, found.run_id, reason) else "already_ended"
    emit({"run_id": found.run_id, "result": result}, as_json=as_json, text=result)


@runs.command("list")
def list_runs(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show every run."""
    with opened(state_dir) as db:
        found = db.read("list_runs", lambda unit: unit.runs.all())
    rows = [_run_data(item) for item in found]
    emit({"runs": rows}, as_json=as_json, text=lambda: _print_runs(found))


@runs.command("show")
def show(run: RunId, state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show one run: its rounds, refusals and alliance-wide figures."""
    with opened(state_dir) as db:
        found = db.read("find_run", lambda unit: unit.runs.resolve(run))
        rounds, refusals = db.read(
            "read_run",
            lambda unit: (unit.rounds.of_run(found.run_id), unit.rounds.refusals(found.run_id)),
        )
    data = {
        **_run_data(found),
        "attempts": [_round_data(item) for item in rounds],
        "refusals": [_refusal_data(item) for item in refusals],
    }
    emit(data, as_json=as_json, text=lambda: _print_run(found, rounds, refusals))


@runs.command("audit")
def audit(run: RunId, state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Recompute what a finished run published; exit code 7 if anything does not hold."""
    with opened(state_dir) as db:
        found = db.read("find_run", lambda unit: unit.runs.resolve(run))
        with counting("adding up masked vectors") as tell:
            report = audit_run(state_dir, db, found, tell)
    emit(asdict(report), as_json=as_json, text="\n".join(report.lines()))


@runs.command("watch")
def watch(run: RunId, state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Follow a run until it ends; exit code 1 when it was aborted or failed, 8 if refused."""
    with opened(state_dir) as db:
        found = db.read("find_run", lambda unit: unit.runs.resolve(run))
        found = _follow(db, found)
        refusals = db.read("refusals", lambda unit: unit.rounds.refusals(found.run_id))
    emit(_run_data(found), as_json=as_json, text=_ending(found))
    if found.state is not RunState.COMPLETED:
        raise typer.Exit(int(Exit.POLICY if _was_refused(found, refusals) else Exit.FAILED))


def _was_refused(run: Run, refusals: list[Refusal]) -> bool:
    """Tell whether a run failed because members' policies or people said no."""
    too_few = run.reason_code in ("too_few_members", "too_few_groups")
    return too_few and any(item.reason_code not in NOT_YET for item in refusals)


def _follow(db: Database, run: Run) -> Run:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("waiting", total=run.rounds, note="")
        while True:
            run = db.read("find_run", lambda unit: unit.runs.get(run.run_id))  # noqa: B023
            rounds = db.read("rounds", lambda unit: unit.rounds.of_run(run.run_id))  # noqa: B023
            done = sum(item.state in ("summed", "burnt") for item in rounds)
            title = f"round {run.current_round}/{run.rounds} · {run.state.value}"
            progress.update(task, completed=done, description=title, note=_note(rounds))
            if run.state.terminal:
                return run
            time.sleep(POLL_S)


def _note(rounds: list[Round]) -> str:
    if not rounds:
        return "waiting for members"
    last = rounds[-1]
    parts = [f"{len(last.participants)} of {len(last.listed)} members", last.state]
    figures = [item.metrics for item in rounds if item.metrics]
    if figures and "pr_auc" in figures[-1]:
        parts.append(f"alliance PR-AUC {figures[-1]['pr_auc']:.2f}")
    return " · ".join(parts)


def _ending(run: Run) -> str:
    if run.state is RunState.COMPLETED:
        return f"completed: release {run.release_id}"
    return f"{run.state.value}: {run.reason_code} {run.reason}".rstrip()


def _run_data(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "state": run.state.value,
        "reason_code": run.reason_code,
        "reason": run.reason,
        "rounds": run.rounds,
        "current_round": run.current_round,
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339(run.started_at) if run.started_at else None,
        "ended_at": rfc3339(run.ended_at) if run.ended_at else None,
        "release_id": run.release_id,
    }


def _round_data(item: Round) -> dict[str, Any]:
    return {
        "round": item.round,
        "attempt": item.attempt,
        "state": item.state,
        "session": item.session,
        "participants": list(item.participants),
        "survivors": list(item.survivors),
        "metrics": dict(item.metrics),
        "started_at": rfc3339(item.started_at),
        "ended_at": rfc3339(item.ended_at) if item.ended_at else None,
        "bytes_up": item.bytes_up,
        "bytes_down": item.bytes_down,
    }


def _refusal_data(item: Refusal) -> dict[str, Any]:
    return {"member": item.member_index, "reason_code": item.reason_code, "at": rfc3339(item.at)}


def _print_runs(found: list[Run]) -> None:
    if not found:
        say("no run yet: touchstone-coordinator run start")
        return
    table = Table("run", "state", "round", "started", "release", box=None)
    for run in found:
        started = rfc3339(run.started_at) if run.started_at else "–"
        table.add_row(
            run.run_id[:8],
            run.state.value,
            f"{run.current_round}/{run.rounds}",
            started,
            (run.release_id or "–")[:8],
        )
    out.print(table)


def _print_run(run: Run, rounds: list[Round], refusals: list[Refusal]) -> None:
    out.print(f"run {run.run_id}\n{_ending(run) if run.state.terminal else run.state.value}")
    table = Table("round", "try", "state", "members", "summed", "PR-AUC", "MB up", box=None)
    for item in rounds:
        pr_auc = item.metrics.get("pr_auc")
        table.add_row(
            str(item.round),
            str(item.attempt),
            item.state,
            str(len(item.participants)),
            str(len(item.survivors)) if item.survivors else "–",
            f"{pr_auc:.3f}" if pr_auc is not None else "",
            f"{item.bytes_up / 1e6:.1f}",
        )
    out.print(table)
    for refusal in refusals:
        verb = "waits" if refusal.reason_code in NOT_YET else "refused"
        out.print(f"member {refusal.member_index} {verb}: {refusal.reason_code}")
