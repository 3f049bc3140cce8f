"""`run list|pending|explain|approve|refuse|audit`: what this node is asked, and what it says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from participant.cli.store import opened
from shared.clock import SystemClock
from shared.console import JsonFlag, emit, say
from shared.errors import Exit

runs = typer.Typer(help="Training runs this member was asked to join.", no_args_is_help=True)
RunId = Annotated[str, typer.Argument(help="The run's id, or as many first digits as are unique.")]
StateDir = Annotated[
    Path, typer.Option("--dir", help="The node's folder.", envvar="TOUCHSTONE_DIR")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check, and say what would change.")]


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(runs, name="run")


@runs.callback()
def _noun() -> None:
    """Training runs this member was asked to join."""


@runs.command("audit")
def audit(
    run: Annotated[
        str, typer.Argument(help="The run's id, or the first digits of one answered here.")
    ],
    state_dir: StateDir,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use what is on this machine only.")
    ] = False,
    sums: Annotated[
        bool,
        typer.Option(
            help="Fetch every masked vector, where the run kept them, and add them up again: "
            "2.7 bytes a parameter, for each member and round."
        ),
    ] = True,
    as_json: bool = JsonFlag,
) -> None:
    """Recompute a finished run's transcript; exit code 7 if anything in it does not hold."""
    from participant.deployment.run_audit import audit_run, resolve_run
    from participant.node.registry_client import channel_factory
    from shared.progress import counting

    run_id = resolve_run(state_dir, run)
    factory = None if offline else channel_factory(state_dir)
    with counting("fetching masked vectors") as tell:
        report = audit_run(state_dir, run_id, factory, sums=sums, tell=tell)
    emit(asdict(report), as_json=as_json, text="\n".join(report.lines()))


@runs.command("list")
def list_runs(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show every run this node was asked to join, and what it answered."""
    _print_runs(state_dir, as_json, waiting_only=False)


@runs.command("pending")
def pending(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show the runs that wait for a person here to approve or refuse them."""
    _print_runs(state_dir, as_json, waiting_only=True)


def _print_runs(state_dir: Path, as_json: bool, *, waiting_only: bool) -> None:
    from participant.cli.run_text import asked_data, print_asked
    from participant.node.decide import asked_runs

    with opened(state_dir) as store:
        found = asked_runs(state_dir, store, SystemClock().now())
    shown = [item for item in found if item.waits or not waiting_only]
    if not shown:
        say("no run waits for a person here" if waiting_only else "no run has asked yet")
    emit(
        {"runs": [asked_data(item) for item in shown]},
        as_json=as_json,
        text=(lambda: print_asked(shown)) if shown else "",
    )


@runs.command("explain")
def explain(run: RunId, state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Hold every rule of the policy against one run, and show what was answered and why.

    Exit code 8 when the node, asked now, would refuse; a run that only waits ends with 0.
    """
    from participant.cli.run_text import explanation_data, print_explanation
    from participant.node.explain import explain_run

    with opened(state_dir) as store:
        found = explain_run(state_dir, store, run, SystemClock().now())
    emit(explanation_data(found), as_json=as_json, text=lambda: print_explanation(found))
    if found.refused:
        raise typer.Exit(int(Exit.POLICY))


@runs.command("approve")
def approve(
    run: RunId,
    state_dir: StateDir,
    manifest: Annotated[
        str, typer.Option("--manifest", help="SHA-256 the manifest must have; exit code 7 if not.")
    ] = "",
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Let this node take part in one run; the policy's other rules still have to agree."""
    from participant.node import decide

    with opened(state_dir) as store:
        verified, changed = decide.approve(
            state_dir, store, run, SystemClock().now(), manifest=manifest, dry_run=dry_run
        )
    _emit_decision(verified.manifest.run_id.hex(), "approved", changed, dry_run, as_json)


@runs.command("refuse")
def refuse(
    run: RunId,
    state_dir: StateDir,
    reason: Annotated[str, typer.Option(help="Why; stays on this machine.")] = "",
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Keep this node out of one run; one it is in already ends for it at the next round."""
    from participant.node import decide

    with opened(state_dir) as store:
        verified, changed = decide.refuse(
            state_dir, store, run, SystemClock().now(), reason=reason, dry_run=dry_run
        )
    _emit_decision(verified.manifest.run_id.hex(), "refused", changed, dry_run, as_json)


def _emit_decision(run_id: str, said: str, changed: bool, dry_run: bool, as_json: bool) -> None:
    done = f"would be {said}" if dry_run else said
    emit(
        {"run_id": run_id, f"already_{said}": not changed, "dry_run": dry_run},
        as_json=as_json,
        text=f"run {run_id[:8]}: {done if changed else f'already {said}'}",
    )
