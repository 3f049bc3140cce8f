"""`peers me|accept|list|phrase|pin|unpin`: whom this member knows."""

from __future__ import annotations

from pathlib import Path

import typer

from participant.cli.options import DryRun
from participant.cli.store import audit_log
from participant.node import peers as peers_module
from participant.node.config import NodeConfig
from participant.node.keystore import identity_key
from participant.node.phrase import check_phrase, phrase
from shared.console import JsonFlag, emit
from shared.errors import BadInput

peers_app = typer.Typer(help="Whom this member knows.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


def register(app: typer.Typer) -> None:
    """Add the noun to the command."""
    app.add_typer(peers_app, name="peers")


@peers_app.command("me")
def me(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Print this member's own fingerprint, to be told to the others."""
    config = NodeConfig.load(folder).member
    own = peers_module.fingerprint(identity_key(folder).public_key().public_bytes_raw())
    emit(
        {"member_id": config.member_id, "index": config.index, "fingerprint": own},
        as_json=as_json,
        text=f"{config.member_id} (member {config.index})\n{own}",
    )


@peers_app.command("accept")
def accept(folder: Path = DirOption, dry_run: DryRun = False, as_json: bool = JsonFlag) -> None:
    """Fetch the alliance's roster, show it, and accept it as this member's own view."""
    from participant.node.registry_client import fetch_roster

    config = NodeConfig.load(folder).member
    roster = fetch_roster(folder)
    own_key = identity_key(folder).public_key().public_bytes_raw()

    def note() -> None:
        body = {"epoch": roster.epoch, "members": len(roster.entries)}
        with audit_log(folder) as audit:
            audit.append("roster.accepted", {**body, "sha256": roster.hash().hex()})

    changed = peers_module.Peers(folder).accept(
        roster, own_index=config.index, own_key=own_key, dry_run=dry_run, note=note
    )
    entries = [
        {
            "index": e.index,
            "member_id": e.member_id,
            "fingerprint": peers_module.fingerprint(e.public_key),
        }
        for e in roster.entries
    ]
    lines = [f"{e['index']:>4}  {e['member_id']}  {e['fingerprint']}" for e in entries]
    state = "already accepted" if not changed else "would be accepted" if dry_run else "accepted"
    emit(
        {
            "epoch": roster.epoch,
            "already_accepted": not changed,
            "dry_run": dry_run,
            "members": entries,
        },
        as_json=as_json,
        text="\n".join([f"roster of epoch {roster.epoch}: {state}", *lines]),
    )


@peers_app.command("list")
def list_peers(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """List the accepted roster and who is pinned."""
    NodeConfig.load(folder)  # a folder that has not joined has no peers, rather than none yet
    view = peers_module.Peers(folder)
    roster, pinned = view.roster(), view.pinned_indices()
    entries = roster.entries if roster else ()
    rows = [
        {
            "index": entry.index,
            "member_id": entry.member_id,
            "fingerprint": peers_module.fingerprint(entry.public_key),
            "pinned": entry.index in pinned,
        }
        for entry in entries
    ]
    lines = [
        f"{row['index']:>4}  {'pinned' if row['pinned'] else '      '}  {row['member_id']}  "
        f"{row['fingerprint']}"
        for row in rows
    ]
    emit({"members": rows}, as_json=as_json, text="\n".join(lines) or "no roster accepted yet")


@peers_app.command("phrase")
def show_phrase(
    member_id: str,
    folder: Path = DirOption,
    as_json: bool = JsonFlag,
) -> None:
    """Print the words that this member and another both see if nobody sits between them.

    Call the other, at a number you did not get from the coordinator, and let one read and the other
    compare. Different words mean that somebody has given one of you a wrong key.
    """
    words = _phrase(folder, member_id)
    emit(
        {"member_id": member_id, "phrase": " ".join(words)},
        as_json=as_json,
        text="\n".join("  ".join(words[at : at + 4]) for at in range(0, len(words), 4)),
    )


def _phrase(folder: Path, member_id: str) -> tuple[str, ...]:
    roster, entry = peers_module.Peers(folder).known(member_id)
    own = identity_key(folder).public_key().public_bytes_raw()
    return phrase(roster.alliance_id, own, entry.public_key)


@peers_app.command("pin")
def pin(
    member_id: str,
    fingerprint: str = typer.Argument("", help="As that member told you, over another channel."),
    heard: str = typer.Option("", "--phrase", help="The words that member read to you, instead."),
    folder: Path = DirOption,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Pin a peer's key; refused (exit code 7) when what you were told is not the roster's."""
    if bool(fingerprint) == bool(heard):
        raise BadInput("give a fingerprint, or --phrase with the words that were read to you")
    peers = peers_module.Peers(folder)
    if heard:
        check_phrase(heard, _phrase(folder, member_id))
        fingerprint = peers_module.fingerprint(peers.known(member_id)[1].public_key)

    def note() -> None:
        with audit_log(folder) as audit:
            audit.append("peer.pinned", {"member_id": member_id, "by": _by(heard)})

    changed = peers.pin(member_id, fingerprint, dry_run=dry_run, note=note)
    emit(
        {"member_id": member_id, "already_pinned": not changed, "dry_run": dry_run},
        as_json=as_json,
        text=f"{member_id}: {_done('pinned', dry_run) if changed else 'already pinned'}",
    )


def _done(what: str, dry_run: bool) -> str:
    return f"would be {what}" if dry_run else what


def _by(heard: str) -> str:
    return "phrase" if heard else "fingerprint"


@peers_app.command("unpin")
def unpin(
    member_id: str,
    folder: Path = DirOption,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Forget a pin."""

    def note() -> None:
        with audit_log(folder) as audit:
            audit.append("peer.unpinned", {"member_id": member_id})

    changed = peers_module.Peers(folder).unpin(member_id, dry_run=dry_run, note=note)
    emit(
        {"member_id": member_id, "already_unpinned": not changed, "dry_run": dry_run},
        as_json=as_json,
        text=f"{member_id}: {_done('unpinned', dry_run) if changed else 'was not pinned'}",
    )
