"""``touchstone-coordinator member``: invite, list and revoke."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import DryRun, StateDir, duration, opened
from coordinator.db.records import Invitation, Member, MemberStatus
from coordinator.enrolment.service import check_invitation, invite, revoke, withdraw
from shared.clock import rfc3339
from shared.console import JsonFlag, emit, out, say
from shared.errors import StateError, TouchstoneError
from shared.trust.certificates import load_certificate
from shared.trust.invitation import write_invitation

members = typer.Typer(help="Invite, list and revoke members.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The member's name, such as brand-one.")]


@members.command("invite")
def invite_member(
    name: Name,
    state_dir: StateDir,
    token_out: Annotated[Path, typer.Option("--token-out", help="Where to write the token.")],
    expires: Annotated[str, typer.Option("--expires", help="90m, 72h or 7d.")] = "72h",
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Write a one-time token for a newcomer; an earlier unused one stops working."""
    lasts = duration(expires)
    if token_out.exists():
        raise StateError(
            f"{token_out} exists already", hint="remove it or choose another --token-out"
        )
    with opened(state_dir) as db:
        if dry_run:
            check_invitation(db, name, expires=lasts)
            data = {"result": "would_invite", "member_id": name, "token_file": str(token_out)}
            emit(data, as_json=as_json, text=f"would_invite: {name}, token in {token_out}")
            return
        invitation = invite(state_dir, db, name, expires=lasts)
        try:
            write_invitation(token_out, invitation)
        except TouchstoneError:
            withdraw(db, name)
            raise
    say(f"hand {token_out} to {name} over a private channel, the fingerprint over another")
    data = {
        "member_id": name,
        "token_file": str(token_out),
        "expires_at": invitation.expires_at,
        "ca_fingerprint": invitation.ca_fingerprint,
    }
    text = (
        f"token file      {token_out}\nexpires         {invitation.expires_at}\n"
        f"ca fingerprint  {invitation.ca_fingerprint}"
    )
    emit(data, as_json=as_json, text=text)


@members.command("list")
def list_members(state_dir: StateDir, as_json: bool = JsonFlag) -> None:
    """Show who joined, and which invitations are still open."""
    with opened(state_dir) as db:
        joined, invited = db.read(
            "list_members", lambda unit: (unit.members.all(), unit.invitations.open(db.clock.now()))
        )
    rows = [_member_row(member) for member in joined] + [_invited_row(one) for one in invited]
    emit({"members": rows}, as_json=as_json, text=lambda: _print(rows))


@members.command("revoke")
def revoke_member(
    name: Name,
    state_dir: StateDir,
    dry_run: DryRun = False,
    as_json: bool = JsonFlag,
) -> None:
    """Shut a member out for good: its certificate is refused from now on."""
    with opened(state_dir) as db:
        if dry_run:
            member = db.read("find_member", lambda unit: unit.members.get(name))
            active = member.status is MemberStatus.ACTIVE
            result = "would_revoke" if active else "already_revoked"
        else:
            result = "revoked" if revoke(db, name) else "already_revoked"
    emit({"result": result, "member_id": name}, as_json=as_json, text=f"{result}: {name}")


def _member_row(member: Member) -> dict[str, object]:
    certificate = load_certificate(member.tls_certificate.encode())
    return {
        "index": member.index,
        "member_id": member.member_id,
        "status": member.status.value,
        "joined_at": rfc3339(member.joined_at),
        "last_seen_at": rfc3339(member.last_seen_at) if member.last_seen_at else None,
        "public_key": member.public_key,
        "tls_fingerprint": member.tls_fingerprint,
        "certificate_until": rfc3339(certificate.not_valid_after_utc),
    }


def _invited_row(invitation: Invitation) -> dict[str, object]:
    return {
        "index": None,
        "member_id": invitation.member_id,
        "status": "invited",
        "expires_at": rfc3339(invitation.expires_at),
    }


def _print(rows: list[dict[str, object]]) -> None:
    if not rows:
        say("nobody has been invited yet: touchstone-coordinator member invite NAME")
        return
    table = Table("index", "member", "status", "since or until", "last seen", box=None)
    for row in rows:
        when = row.get("joined_at") or row.get("expires_at")
        cells = (row["index"], row["member_id"], row["status"], when, row.get("last_seen_at"))
        table.add_row(*("–" if cell is None else str(cell) for cell in cells))
    out.print(table)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(members, name="member")
