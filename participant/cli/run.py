"""``touchstone-participant run``: hold a finished run against what this member saw of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from shared.console import JsonFlag, emit

runs = typer.Typer(help="Training runs this member took part in.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(runs, name="run")


@runs.callback()
def _noun() -> None:
    """Training runs this member took part in."""


@runs.command("audit")
def audit(
    run: Annotated[
        str, typer.Argument(help="The run's id, or the first digits of one answered here.")
    ],
    state_dir: Annotated[
        Path, typer.Option("--dir", help="The node's folder.", envvar="TOUCHSTONE_DIR")
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Use what is on this machine only.")
    ] = False,
    as_json: bool = JsonFlag,
) -> None:
    """Recompute a finished run's transcript; exit code 7 if anything in it does not hold."""
    from participant.deployment.run_audit import audit_run, resolve_run
    from participant.node.registry_client import channel_factory

    run_id = resolve_run(state_dir, run)
    report = audit_run(state_dir, run_id, None if offline else channel_factory(state_dir))
    emit(asdict(report), as_json=as_json, text="\n".join(report.lines()))
