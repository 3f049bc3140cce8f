"""`touchstone-participant`: a member's command."""

from __future__ import annotations

import typer

from participant.cli import (
    audit,
    bugreport,
    cert,
    data,
    doctor,
    join,
    model,
    peers,
    policy,
    privacy,
    run,
    score,
    up,
)
from shared.console import add_version, run_app
from shared.scratch import make_scratch

app = typer.Typer(
    name="touchstone-participant",
    help="Join an alliance, import private data, train with others, score your own listings.",
    epilog="Every command takes --debug, which shows where an error came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
add_version(app)
_MODULES = (
    join, cert, policy, peers, data, up, run, privacy, model, score, audit, doctor, bugreport,
)  # fmt: skip
for module in _MODULES:
    module.register(app)


def main() -> int:
    """Run the command and return its exit code."""
    make_scratch()
    return run_app(app, "touchstone-participant")
