"""Inviting, enrolling and revoking members; the roster they form."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.db import Database, Unit
from coordinator.db.records import Alliance, Member, MemberStatus
from coordinator.db.records import Invitation as InvitationRecord
from coordinator.enrolment.files import load_authority, load_ca, load_signing_key
from shared.clock import rfc3339
from shared.errors import BadInput, MemberRevoked, StateError, TokenRefused
from shared.trust.authority import Authority
from shared.trust.certificates import fingerprint, load_certificate, to_pem
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import TOKEN_BYTES, Invitation, new_token, token_hash
from shared.trust.keys import public_hex
from shared.trust.names import check_member_id
from shared.trust.requests import verify_identity_request, verify_tls_request
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
    check_member_id(member_id)
    if not timedelta(0) < expires <= LONGEST_EXPIRY:
        raise BadInput("an invitation lasts at most 30 days", hint="for example --expires 72h")
    ca_pem, token, now = to_pem(load_ca(state_dir)), new_token(), db.clock.now()
    record = InvitationRecord(member_id, token_hash(token), now, now + expires)

    def work(unit: Unit) -> Alliance:
        member = unit.members.find(member_id)
        if member is not None:
            raise StateError(
                f"there is already a member {member_id!r} ({member.status})",
                hint="names are never given twice; choose another",
            )
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


class Enrolment:
    """Redeems invitations.

    Args:
        db: tokens and members.
        authority: signs the certificates.
        coordinator_key: the coordinator's public signing key, told to every newcomer.
    """

    def __init__(
        self, db: Database, authority: Authority, coordinator_key: Ed25519PublicKey
    ) -> None:
        self._db = db
        self._authority = authority
        self._coordinator_key = coordinator_key.public_bytes_raw()

    @classmethod
    def open(cls, state_dir: Path, db: Database) -> Enrolment:
        """Return the enrolment of a coordinator's folder; raises :class:`KeyUnreadable`."""
        return cls(db, load_authority(state_dir), load_signing_key(state_dir).public_key())

    def enrol(self, request: EnrolmentRequest) -> EnrolmentGrant:
        """Redeem a token; the same token with the same keys gets the same answer again.

        Raises:
            TokenRefused: unknown, expired, replaced, for another name, or used with other keys.
            RequestRefused: a signing request is unreadable, of the wrong kind or not proven.
            MemberRevoked: the token was used, and its member revoked since.
            StateError: a key is already another member's, or the alliance is full.
        """
        if len(request.token) != TOKEN_BYTES:
            raise _unknown_token()
        tls_key = verify_tls_request(request.tls_request)
        identity_key = verify_identity_request(request.identity_request)
        hashed, now = token_hash(request.token), self._db.clock.now()

        def work(unit: Unit) -> tuple[Alliance, Member]:
            invitation = unit.invitations.find(hashed)
            if invitation is None:
                raise _unknown_token()
            if request.member_id not in {"", invitation.member_id}:
                raise TokenRefused("the token was issued to another name")
            if unit.invitations.consume(hashed, now):
                return self._admit(unit, invitation.member_id, tls_key, identity_key, now)
            return _again(unit, invitation, tls_key, identity_key)

        try:
            alliance, member = self._db.write("enrol_member", work)
        except TokenRefused as refusal:
            self._note_refusal(hashed, refusal)
            raise
        return EnrolmentGrant(
            index=member.index,
            member_id=member.member_id,
            tls_certificate=member.tls_certificate.encode(),
            identity_certificate=member.identity_certificate.encode(),
            ca_certificate=to_pem(self._authority.certificate),
            coordinator_public_key=self._coordinator_key,
            alliance_name=alliance.name,
            port=alliance.port,
        )

    def _note_refusal(self, hashed: str, refusal: TokenRefused) -> None:
        """Audit the misuse of a token that was once issued; what strangers guess is not logged."""

        def work(unit: Unit) -> None:
            invitation = unit.invitations.find(hashed)
            if invitation is not None:
                body = {"member_id": invitation.member_id, "why": refusal.message}
                unit.audit.append("enrolment.refused", body)

        self._db.write("note_refusal", work)

    def _admit(
        self,
        unit: Unit,
        member_id: str,
        tls_key: EllipticCurvePublicKey,
        identity_key: Ed25519PublicKey,
        now: datetime,
    ) -> tuple[Alliance, Member]:
        alliance, index = unit.alliance.get(), unit.members.next_index()
        tls = self._authority.issue_member_tls(tls_key, member_id, alliance.id, index, now)
        identity = self._authority.issue_member_identity(
            identity_key, member_id, alliance.id, index, now
        )
        member = Member(
            index=index,
            member_id=member_id,
            public_key=public_hex(identity_key),
            tls_fingerprint=fingerprint(tls),
            identity_fingerprint=fingerprint(identity),
            tls_certificate=to_pem(tls).decode(),
            identity_certificate=to_pem(identity).decode(),
            joined_at=now,
        )
        unit.members.add(member)
        body = {
            "index": index,
            "member_id": member_id,
            "public_key": member.public_key,
            "roster_epoch": unit.alliance.next_epoch(),
        }
        unit.audit.append("member.joined", body, actor=member_id)
        return alliance, member


def _unknown_token() -> TokenRefused:
    return TokenRefused(
        "the coordinator does not know this token",
        hint="it may belong to another alliance; ask the operator for an invitation",
    )


def _again(
    unit: Unit,
    invitation: InvitationRecord,
    tls_key: EllipticCurvePublicKey,
    identity_key: Ed25519PublicKey,
) -> tuple[Alliance, Member]:
    """Answer a token that can no longer be consumed: repeat the grant, or say why not."""
    if invitation.used_at is None:
        if invitation.replaced_at is not None:
            raise TokenRefused(
                "the token was replaced by a newer one", hint="use the newest token file"
            )
        raise TokenRefused(
            "the token has expired", hint="ask the coordinator's operator for a new invitation"
        )
    member = unit.members.get(invitation.member_id)
    if member.status is MemberStatus.REVOKED:
        raise MemberRevoked(f"the member {member.member_id!r} has been revoked")
    same_tls = load_certificate(member.tls_certificate.encode()).public_key() == tls_key
    if not same_tls or not hmac.compare_digest(member.public_key, public_hex(identity_key)):
        raise TokenRefused(
            "the token has been used already",
            hint="if that was not you, tell the operator at once: somebody joined in your name",
        )
    return unit.alliance.get(), member
