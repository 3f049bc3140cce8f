"""`serve`: the coordinator's long-lived process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from shared.console import say
from shared.service import run_service

DirOption = typer.Option(
    ..., "--dir", envvar="TOUCHSTONE_DIR", help="The coordinator's state folder."
)


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("serve")(serve)


def serve(folder: Path = DirOption) -> None:
    """Serve the alliance until stopped (SIGTERM or Ctrl-C); the log is DIR/coordinator.log.

    While the disk is full or read-only it waits until it is not.
    """
    run_service(folder, lambda: _serve(folder))
    say("stopped")


def _serve(folder: Path) -> None:
    # Flower takes most of a second to import; the other commands should not wait for it.
    from coordinator import serving
    from coordinator.rounds.supervisor import Supervisor

    asyncio.run(serving.serve(folder, Supervisor, ready=say))
