"""``touchstone-coordinator audit``: read and prove the operator's own log."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from coordinator.audit.vocabulary import check_kind
from coordinator.cli.options import StateDir, opened
from coordinator.db.records import AuditEvent
from shared.audit.chain import Head
from shared.console import JsonFlag, emit, out, say
from shared.errors import BadInput

audit = typer.Typer(help="Read and prove the audit log.", no_args_is_help=True)


@audit.command()
def verify(
    state_dir: StateDir,
    head: Annotated[
        str, typer.Option("--head", help="A head noted earlier, as SEQ:HASH; must be in the log.")
    ] = "",
    as_json: bool = JsonFlag,
) -> None:
    """Prove that no event was changed, removed or reordered; print the head to note elsewhere."""
    anchor = _head_of(head) if head else None
    with opened(state_dir) as db:
        proven = db.read("verify_audit", lambda unit: unit.audit.verify(anchor))
    noted = f"{proven.seq}:{proven.hash.hex()}"
    emit(
        {"events": proven.seq, "head": noted},
        as_json=as_json,
        text=f"{proven.seq} events, unbroken\nhead  {noted}",
    )


@audit.command()
def show(
    state_dir: StateDir,
    kind: Annotated[str, typer.Option("--kind", help="Only events of this kind.")] = "",
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the latest.")] = 50,
    as_json: bool = JsonFlag,
) -> None:
    """Show the latest events, oldest first."""
    if kind:
        check_kind(kind)
    with opened(state_dir) as db:
        events = db.read("show_audit", lambda unit: unit.audit.events(kind=kind, last=last))
    emit(
        {"events": [_row(event) for event in events]}, as_json=as_json, text=lambda: _print(events)
    )


def _head_of(text: str) -> Head:
    seq, colon, digest = text.partition(":")
    try:
        value = Head(int(seq), bytes.fromhex(digest))
    except ValueError:
        value = Head(0, b"")
    if not colon or len(value.hash) != 32:
        raise BadInput("a head is SEQ:HASH as printed by audit verify")
    return value


def _row(event: AuditEvent) -> dict[str, object]:
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "actor": event.actor,
        "body": dict(event.body),
        "hash": event.hash.hex(),
    }


def _print(events: list[AuditEvent]) -> None:
    if not events:
        say("no such events")
    for event in events:
        body = json.dumps(dict(event.body), ensure_ascii=False, sort_keys=True)
        line = f"{event.seq:>6}  {event.at}  {event.kind:<28} {event.actor:<16} {body}"
        out.print(line, markup=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(audit, name="audit")
