"""`policy init|show|check` and `peers me|accept|list|pin|unpin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from participant.node import peers as peers_module
from participant.node.config import NodeConfig
from participant.node.keystore import identity_key
from participant.node.policy import load_policy, write_default
from shared.console import JsonFlag, emit, say

if TYPE_CHECKING:
    from participant.store.audit import AuditLog

policy_app = typer.Typer(help="What this node may take part in.", no_args_is_help=True)
peers_app = typer.Typer(help="Whom this member knows.", no_args_is_help=True)
DirOption = typer.Option(..., "--dir", envvar="TOUCHSTONE_DIR", help="The node's state folder.")


def register(app: typer.Typer) -> None:
    """Add both nouns to the command."""
    app.add_typer(policy_app, name="policy")
    app.add_typer(peers_app, name="peers")


@policy_app.command("init")
def init(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Write the commented policy that refuses everything, unless there is one."""
    path = folder / "policy.toml"
    existed = path.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_default(path)
    emit(
        {"path": str(path), "already_there": existed},
        as_json=as_json,
        text=f"{'already there' if existed else 'written'}: {path}",
    )


@policy_app.command("show")
def show(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Print the rules in force."""
    policy = load_policy(folder / "policy.toml")
    rules = policy.model_dump(mode="json")
    emit(rules, as_json=as_json, text="\n".join(f"{name} = {rules[name]!r}" for name in rules))


@policy_app.command("check")
def check(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Validate the policy file; exit code 3 when it is wrong."""
    policy = load_policy(folder / "policy.toml")
    if not policy.allowed_purposes:
        say("note: allowed_purposes is empty, so every run is refused")
    emit({"valid": True}, as_json=as_json, text="the policy is valid")


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
def accept(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Fetch the alliance's roster, show it, and accept it as this member's own view."""
    from participant.node.registry_client import fetch_roster

    config = NodeConfig.load(folder).member
    roster = fetch_roster(folder)
    own_key = identity_key(folder).public_key().public_bytes_raw()
    changed = peers_module.Peers(folder).accept(roster, own_index=config.index, own_key=own_key)
    if changed:
        body = {"epoch": roster.epoch, "members": len(roster.entries)}
        with _log(folder) as audit:
            audit.append("roster.accepted", {**body, "sha256": roster.hash().hex()})
    entries = [
        {
            "index": e.index,
            "member_id": e.member_id,
            "fingerprint": peers_module.fingerprint(e.public_key),
        }
        for e in roster.entries
    ]
    lines = [f"{e['index']:>4}  {e['member_id']}  {e['fingerprint']}" for e in entries]
    state = "accepted" if changed else "already accepted"
    emit(
        {"epoch": roster.epoch, "already_accepted": not changed, "members": entries},
        as_json=as_json,
        text="\n".join([f"roster of epoch {roster.epoch}: {state}", *lines]),
    )


@peers_app.command("list")
def list_peers(folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """List the accepted roster and who is pinned."""
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


@peers_app.command("pin")
def pin(
    member_id: str,
    fingerprint: str = typer.Argument(..., help="As that member told you, over another channel."),
    folder: Path = DirOption,
    as_json: bool = JsonFlag,
) -> None:
    """Pin a peer's fingerprint; refused (exit code 7) when the roster's key has another one."""
    changed = peers_module.Peers(folder).pin(member_id, fingerprint)
    if changed:
        with _log(folder) as audit:
            audit.append("peer.pinned", {"member_id": member_id})
    emit(
        {"member_id": member_id, "already_pinned": not changed},
        as_json=as_json,
        text=f"{member_id}: {'pinned' if changed else 'already pinned'}",
    )


@peers_app.command("unpin")
def unpin(member_id: str, folder: Path = DirOption, as_json: bool = JsonFlag) -> None:
    """Forget a pin."""
    changed = peers_module.Peers(folder).unpin(member_id)
    if changed:
        with _log(folder) as audit:
            audit.append("peer.unpinned", {"member_id": member_id})
    emit(
        {"member_id": member_id, "already_unpinned": not changed},
        as_json=as_json,
        text=f"{member_id}: {'unpinned' if changed else 'was not pinned'}",
    )


@contextmanager
def _log(folder: Path) -> Iterator[AuditLog]:
    """Open the node's audit log for one event."""
    from participant.store import Store

    store = Store.open(folder)
    try:
        yield store.audit
    finally:
        store.close()
