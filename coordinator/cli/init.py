"""``touchstone-coordinator init``: found an alliance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DryRun, StateDir
from coordinator.db.records import Alliance
from coordinator.enrolment.founding import DEFAULT_PORT, Founded, check_founding, found
from shared.clock import rfc3339
from shared.console import JsonFlag, emit, say


def init(
    state_dir: StateDir,
    name: Annotated[str, typer.Option("--name", help="What people call the alliance.")],
    host: Annotated[str, typer.Option("--host", help="Name or address that members will use.")],
    port: Annotated[
        int | None,
        typer.Option(
            "--port", help=f"Members' port; enrolment uses the next one. Default: {DEFAULT_PORT}."
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", help="Encrypt the private keys with its first line."),
    ] = None,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Found an alliance: keys, certificates and database. Running it again changes nothing."""
    chosen = DEFAULT_PORT if port is None else port
    if dry_run and check_founding(state_dir, name=name, host=host, port=chosen) is None:
        data = {"result": "would_found", "alliance": name, "host": host, "port": chosen}
        emit(data, as_json=as_json, text=f"would_found: {name!r} in {state_dir}")
        return
    result = found(state_dir, name=name, host=host, port=chosen, passphrase_file=passphrase_file)
    ignored = _not_applied(result.alliance, {"name": name, "host": host, "port": port})
    if not result.fresh:
        say(f"already_founded: {state_dir} holds the alliance {result.alliance.name!r}; unchanged")
    for option, kept in ignored.items():
        say(f"not applied: --{option}; the alliance keeps {kept!r}")
    emit(_data(result, list(ignored)), as_json=as_json, text=_text(result))


def _not_applied(alliance: Alliance, asked: dict[str, object]) -> dict[str, object]:
    """Return what an alliance has instead of the options that were given."""
    kept = {option: getattr(alliance, option) for option in asked}
    return {
        option: kept[option]
        for option, value in asked.items()
        if value is not None and value != kept[option]
    }


def _data(result: Founded, not_applied: list[str]) -> dict[str, object]:
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
        "not_applied": not_applied,
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
