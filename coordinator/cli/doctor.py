"""`doctor`: what is wrong with this coordinator, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.options import StateDir
from shared.console import JsonFlag, emit
from shared.errors import Exit


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("doctor")(doctor)


def doctor(
    state_dir: StateDir,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the network alone.")] = False,
    as_json: bool = JsonFlag,
) -> None:
    """Check installation, folder, keys, database and ports; exit code 10 if any fails."""
    from coordinator.doctor.service import examine  # imports Flower

    report = examine(state_dir, offline=offline)
    emit(report.as_dict(), as_json=as_json, text=report.text())
    if not report.healthy:
        raise typer.Exit(int(Exit.DOCTOR))
