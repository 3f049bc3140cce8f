"""`bugreport`: what may be sent to the maintainers, with nothing of this member's in it."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from shared.clock import SystemClock
from shared.console import JsonFlag, emit, say
from shared.files import write_atomic

DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")
OutOption = typer.Option(None, "--out", help="Write it to this file instead of stdout.")
OfflineFlag = typer.Option(False, "--offline", help="Leave the network alone.")


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("bugreport")(bugreport)


def bugreport(
    folder: Path = DirOption,
    out: Path | None = OutOption,
    offline: bool = OfflineFlag,
    as_json: bool = JsonFlag,
) -> None:
    """Write what `doctor` found, in codes, with versions and the shape of the configuration.

    One JSON document, with or without --json, that can be read in a minute before it is sent. It
    holds no record, secret, name, address, path, token or text of a log.
    """
    from participant.doctor.bugreport import bug_report  # imports Flower and polars
    from participant.doctor.service import examine

    report = examine(folder, offline=offline)
    document = bug_report(folder, report, SystemClock().now())
    if out is None:
        emit(document, as_json=True)
        return
    write_atomic(out, json.dumps(document, indent=1).encode() + b"\n", mode=0o600)
    say(f"written: {out}; read it before you send it")
    emit({"written": str(out)}, as_json=as_json)
