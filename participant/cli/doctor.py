"""`doctor`: what is wrong with this node, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer

from shared.console import JsonFlag, emit, say
from shared.errors import Exit

DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")
OfflineFlag = typer.Option(False, "--offline", help="Leave the network alone.")
DeepFlag = typer.Option(
    False, "--deep", help="Compare all stored records with their digests, however long it takes."
)


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("doctor")(doctor)


def doctor(
    folder: Path = DirOption,
    offline: bool = OfflineFlag,
    deep: bool = DeepFlag,
    as_json: bool = JsonFlag,
) -> None:
    """Check installation, folder, certificates, network, records; exit code 10 if any fails."""
    from participant.doctor.service import examine  # imports Flower and polars

    report = examine(folder, offline=offline, deep=deep, progress=_progress(as_json))
    emit(report.as_dict(), as_json=as_json, text=report.text())
    if not report.healthy:
        raise typer.Exit(int(Exit.DOCTOR))


def _progress(as_json: bool) -> Callable[[str], None]:
    """Return what tells a person at a terminal which check is being made."""
    if as_json or not sys.stderr.isatty():
        return lambda _name: None
    return lambda name: say(f"looking at: {name}")
