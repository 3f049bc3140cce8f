"""``touchstone-coordinator init``: found an alliance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import StateDir
from coordinator.enrolment.founding import DEFAULT_PORT, Founded, found
from shared.clock import rfc3339
from shared.console import JsonFlag, emit, say


def init(
    state_dir: StateDir,
    name: Annotated[str, typer.Option("--name", help="What people call the alliance.")],
    host: Annotated[str, typer.Option("--host", help="Name or address that members will use.")],
    port: Annotated[
        int, typer.Option("--port", help="Members' port; enrolment uses the next one.")
    ] = DEFAULT_PORT,
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", help="Encrypt the private keys with its first line."),
    ] = None,
    as_json: bool = JsonFlag,
) -> None:
    """Found an alliance: keys, certificates and database. Running it again changes nothing."""
    result = found(state_dir, name=name, host=host, port=port, passphrase_file=passphrase_file)
    if not result.fresh:
        say(f"already_founded: {state_dir} holds the alliance {result.alliance.name!r}; unchanged")
    emit(_data(result), as_json=as_json, text=_text(result))


def _data(result: Founded) -> dict[str, object]:
    alliance = result.alliance
    return {
        "result": "founded" if result.fresh else "already_founded",
        "alliance": alliance.name,
        "alliance_id": alliance.id,
        "host": alliance.host,
        "port": alliance.port,
        "enrolment_port": alliance.enrolment_port,
        "ca_fingerprint": alliance.ca_fingerprint,
        "created_at": rfc3339(alliance.created_at),
    }


def _text(result: Founded) -> str:
    alliance = result.alliance
    return (
        f"alliance        {alliance.name}\n"
        f"address         {alliance.host}:{alliance.port} (enrolment {alliance.enrolment_port})\n"
        f"ca fingerprint  {alliance.ca_fingerprint}"
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)
