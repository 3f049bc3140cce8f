"""`touchstone-coordinator`: the operator's command."""

from __future__ import annotations

import typer

from coordinator.cli import audit, cert, doctor, init, member, release, run, serve
from shared.console import add_version, run_app
from shared.scratch import make_scratch

app = typer.Typer(
    name="touchstone-coordinator",
    help="Found an alliance, invite members, run secure training, release models.",
    epilog="Every command takes --debug, which shows where an error came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
add_version(app)
for module in (init, member, cert, serve, run, release, audit, doctor):
    module.register(app)


def main() -> int:
    """Run the command and return its exit code."""
    make_scratch()
    return run_app(app, "touchstone-coordinator")
