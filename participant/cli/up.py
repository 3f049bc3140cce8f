"""`up`: the member's long-lived node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shared.console import say
from shared.service import run_service

if TYPE_CHECKING:
    from participant.node.daemon import App

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("up")(up)


def up(folder: Path = DirOption) -> None:
    """Keep this member's node connected until stopped (SIGTERM or Ctrl-C); logs to DIR/node.log.

    While the disk is full or read-only the node waits until it is not.
    """
    run_service(folder, lambda: _run(folder))


def _run(folder: Path) -> None:
    _limit_threads(folder)
    from participant.node import daemon  # imports Flower, which other commands need not wait for

    daemon.up(folder, _installed_app, tell=say, wipe=_wipe_expired)


def _limit_threads(folder: Path) -> None:
    """Keep numerical libraries to the policy's threads; they read this once, when imported."""
    from participant.node.policy import Policy, load_policy

    path = folder / "policy.toml"
    threads = (load_policy(path) if path.exists() else Policy()).threads
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)  # whatever was set: nothing overrides a policy


def _wipe_expired(state_dir: Path) -> bool:
    from participant.node.runtime import runtime_of

    return runtime_of(state_dir).wipe_expired()


def _installed_app() -> App:
    """Return the one application this node ever runs."""
    from participant.app import app

    installed: App = app
    return installed
