"""`audit verify` and `audit show`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import typer

from shared.audit.chain import ChainedEvent, Head, canonical_body
from shared.console import JsonFlag, emit
from shared.errors import BadInput

audit_app = typer.Typer(help="The log of what this node did and why.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")
HeadOption = typer.Option(
    None, "--head", metavar="SEQ:HASH", help="A head noted earlier; the log must contain it."
)
AfterOption = typer.Option(0, "--after", min=0, help="Show events after this number.")
LimitOption = typer.Option(50, "--limit", min=1, max=10_000, help="Show at most so many.")


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(audit_app, name="audit")


@audit_app.command("verify")
def verify(
    folder: Path = DirOption, head: str | None = HeadOption, as_json: bool = JsonFlag
) -> None:
    """Prove that nothing in the log was changed or removed; exit code 7 if something was."""
    from participant.store import Store

    anchor = None if head is None else _parse_head(head)
    proved = Store.open(folder, create=False).audit.verify(anchor=anchor)
    emit(
        {"events": proved.seq, "head": proved.hash.hex()},
        as_json=as_json,
        text=f"{proved.seq} events, unbroken; head {proved.seq}:{proved.hash.hex()}",
    )


@audit_app.command("show")
def show(
    folder: Path = DirOption,
    after: int = AfterOption,
    limit: int = LimitOption,
    as_json: bool = JsonFlag,
) -> None:
    """Print events in order."""
    from participant.store import Store

    log = Store.open(folder, create=False).audit
    events = list(islice(log.events(after=after), limit))
    emit(
        {"events": [_as_dict(event) for event in events]},
        as_json=as_json,
        text="\n".join(
            f"{event.seq:>6}  {event.at}  {event.kind}  {canonical_body(event.body)}"
            for event in events
        ),
    )


def _as_dict(event: ChainedEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "body": dict(event.body),
        "hash": event.hash.hex(),
    }


def _parse_head(text: str) -> Head:
    seq, _, digest = text.partition(":")
    try:
        head = Head(int(seq), bytes.fromhex(digest))
    except ValueError:
        head = Head(0, b"")
    if head.seq < 1 or len(head.hash) != 32:
        raise BadInput("a head is written as SEQ:HASH", hint="copy it from `audit verify`")
    return head
