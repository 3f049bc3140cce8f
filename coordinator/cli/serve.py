"""`serve`: the coordinator's long-lived process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from shared.console import say
from shared.disk import when_disk_allows
from shared.scratch import make_scratch
from shared.signals import leave_at_sigterm

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
    leave_at_sigterm()
    when_disk_allows(folder, lambda: _serve(folder), say)
    say("stopped")


def _serve(folder: Path) -> None:
    leave_at_sigterm()  # again, where the disk ended an attempt that listened by itself
    make_scratch()
    # Flower takes most of a second to import; the other commands should not wait for it.
    from coordinator import serving
    from coordinator.rounds.supervisor import Supervisor

    asyncio.run(serving.serve(folder, Supervisor, ready=say))
