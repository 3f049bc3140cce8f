"""Inviting and revoking members; the roster they form. Redeeming is in its own module."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from coordinator.db import Database, Unit
from coordinator.db.records import Alliance, MemberStatus
from coordinator.db.records import Invitation as InvitationRecord
from coordinator.enrolment.files import load_ca
from shared.clock import rfc3339
from shared.errors import BadInput, StateError
from shared.trust.certificates import to_pem
from shared.trust.invitation import Invitation, new_token, token_hash
from shared.trust.names import check_member_id
from shared.trust.roster import Roster, RosterEntry

DEFAULT_EXPIRY = timedelta(hours=72)
LONGEST_EXPIRY = timedelta(days=30)


def invite(
    state_dir: Path, db: Database, member_id: str, *, expires: timedelta = DEFAULT_EXPIRY
) -> Invitation:
    """Return a fresh one-time invitation; an unused earlier one of the same name is voided.

    Args:
        state_dir: the coordinator's folder, for the authority's certificate.
        db: remembers the token's hash, never the token.
        member_id: the newcomer's name, a slug.
        expires: how long the token works, more than nothing and at most 30 days.

    Raises:
        BadInput: the name or the duration is out of bounds.
        StateError: there is a member of that name already.
    """
    _check_words(member_id, expires)
    ca_pem, token, now = to_pem(load_ca(state_dir)), new_token(), db.clock.now()
    record = InvitationRecord(member_id, token_hash(token), now, now + expires)

    def work(unit: Unit) -> Alliance:
        _check_free(unit, member_id)
        voided = unit.invitations.replace(member_id, now)
        unit.invitations.add(record)
        body = {"member_id": member_id, "expires_at": rfc3339(record.expires_at), "voided": voided}
        unit.audit.append("member.invited", body, actor="operator")
        return unit.alliance.get()

    alliance = db.write("invite_member", work)
    return Invitation(
        alliance=alliance.name,
        member_id=member_id,
        host=alliance.host,
        port=alliance.port,
        enrolment_port=alliance.enrolment_port,
        expires_at=rfc3339(record.expires_at),
        ca_fingerprint=alliance.ca_fingerprint,
        ca_pem=ca_pem,
        token=token,
    )


def check_invitation(db: Database, member_id: str, *, expires: timedelta) -> None:
    """Refuse what :func:`invite` would refuse, and change nothing; raises as it does."""
    _check_words(member_id, expires)
    db.read("check_invitation", lambda unit: _check_free(unit, member_id))


def _check_words(member_id: str, expires: timedelta) -> None:
    check_member_id(member_id)
    if not timedelta(0) < expires <= LONGEST_EXPIRY:
        raise BadInput("an invitation lasts at most 30 days", hint="for example --expires 72h")


def _check_free(unit: Unit, member_id: str) -> None:
    member = unit.members.find(member_id)
    if member is not None:
        raise StateError(
            f"there is already a member {member_id!r} ({member.status})",
            hint="names are never given twice; choose another",
        )


def withdraw(db: Database, member_id: str) -> None:
    """Void the unused invitations of a name, for a token that could not be handed over."""

    def work(unit: Unit) -> None:
        unit.invitations.replace(member_id, db.clock.now())
        unit.audit.append("member.invitation_withdrawn", {"member_id": member_id}, actor="operator")

    db.write("withdraw_invitation", work)


def revoke(db: Database, member_id: str) -> bool:
    """Shut a member out for good; return whether it had still been active.

    Raises:
        NotFound: there is no such member.
    """

    def work(unit: Unit) -> bool:
        if unit.members.get(member_id).status is MemberStatus.REVOKED:
            return False
        unit.members.revoke(member_id, db.clock.now())
        body = {"member_id": member_id, "roster_epoch": unit.alliance.next_epoch()}
        unit.audit.append("member.revoked", body, actor="operator")
        return True

    return db.write("revoke_member", work)


def roster(db: Database) -> Roster:
    """Return the roster of the current epoch: the active members; raises :class:`NotFound`."""
    alliance, members = db.read(
        "read_roster", lambda unit: (unit.alliance.get(), unit.members.active())
    )
    entries = tuple(
        RosterEntry(member.index, member.member_id, bytes.fromhex(member.public_key))
        for member in members
    )
    return Roster(bytes.fromhex(alliance.id), alliance.roster_epoch, entries)
