"""Redeeming invitations: a token and two signing requests against two certificates."""

from __future__ import annotations

import hmac
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.db import Database, Unit
from coordinator.db.records import Alliance, Invitation, Member, MemberStatus
from coordinator.enrolment.files import load_authority, load_signing_key
from shared.errors import MemberRevoked, TokenRefused
from shared.trust.authority import Authority
from shared.trust.certificates import fingerprint, load_certificate, to_pem
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import TOKEN_BYTES, token_hash
from shared.trust.keys import public_hex
from shared.trust.requests import verify_identity_request, verify_tls_request


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
    invitation: Invitation,
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
