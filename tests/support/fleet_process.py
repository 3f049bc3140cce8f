"""The two long-lived processes with an idle supervisor and an echoing application.

``python -m tests.support.fleet_process serve|up --dir D``: everything else is production code.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import typer

from coordinator import serving
from participant.node import daemon
from shared.console import run_app, say
from tests.support.fleet import echo

app = typer.Typer()
DIR = typer.Option(..., "--dir")


class Idle:
    """Supervises no run; says who was connected at the end."""

    def __init__(self, _folder: Path, _db: Any, grid: Any) -> None:
        self._grid = grid

    def start(self) -> None:
        pass

    def stop(self) -> None:
        say(f"connected at the end: {sorted(self._grid.connected())}")


@app.command()
def serve(folder: Path = DIR) -> None:
    asyncio.run(serving.serve(folder, Idle, ready=say))


@app.command()
def up(folder: Path = DIR) -> None:
    daemon.up(folder, lambda: lambda message, _context: echo(message), tell=say)


if __name__ == "__main__":
    sys.exit(run_app(app, "fleet_process"))
