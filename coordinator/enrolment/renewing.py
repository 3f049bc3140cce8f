"""Renewing a member's certificates: the same name, number and identity key, a fresh TLS key."""

from __future__ import annotations

import hmac
from pathlib import Path

from coordinator.db import Database, Unit
from coordinator.db.records import Member, Renewal
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.files import load_authority
from coordinator.enrolment.limiter import RateLimiter
from shared.errors import TouchstoneError
from shared.limits import RENEWALS_PER_MINUTE
from shared.trust.authority import Authority
from shared.trust.certificates import fingerprint, load_certificate, to_pem
from shared.trust.errors import RenewalRefused
from shared.trust.keys import public_from_hex
from shared.trust.peer import Peer
from shared.trust.renewal import RenewalGrant, RenewalRequest, RenewalStatement
from shared.trust.requests import verify_tls_request


class Renewals:
    """Issues new certificates to members that are admitted with the old ones.

    Args:
        db: members and their open renewals.
        authority: signs the certificates.
        gatekeeper: says who calls; a revoked member gets no further than this.
    """

    def __init__(self, db: Database, authority: Authority, gatekeeper: Gatekeeper) -> None:
        self._db = db
        self._authority = authority
        self._gatekeeper = gatekeeper
        self._limiter = RateLimiter(db.clock, per_minute=RENEWALS_PER_MINUTE)

    @classmethod
    def open(cls, state_dir: Path, db: Database, gatekeeper: Gatekeeper) -> Renewals:
        """Return the renewals of a coordinator's folder; raises :class:`KeyUnreadable`."""
        return cls(db, load_authority(state_dir), gatekeeper)

    def admit(self, pem: bytes) -> Peer:
        """Return the member with the connection certificate ``pem``; raises ``AuthError``."""
        return self._gatekeeper.admit(pem)

    def renew(self, pem: bytes, request: RenewalRequest) -> RenewalGrant:
        """Return new certificates; they become the member's own when the new one is first used.

        Args:
            pem: the certificate of the connection that the request came by.
            request: what the member's identity key has signed.

        Raises:
            MemberRevoked: the member was revoked.
            AuthError: the connection's certificate is not the member's current one.
            RenewalRefused: signed by another key, for another member, or not for this connection.
            RequestRefused: the signing request is unreadable, of the wrong kind or not proven.
            RateLimited: this member asked too often.
        """
        peer = self.admit(pem)
        self._limiter.check(str(peer.index))
        try:
            return self._db.write("renew_member", lambda unit: self._renew(unit, peer, request))
        except TouchstoneError as refusal:
            self._note(peer, refusal)
            raise

    def _renew(self, unit: Unit, peer: Peer, request: RenewalRequest) -> RenewalGrant:
        member = unit.members.get(peer.member_id)
        statement = request.verify(bytes.fromhex(member.public_key))
        _check_same(statement, member, peer, unit.alliance.get().id)
        issued = self._issue(statement, member)
        unit.renewals.add(issued)
        body = {"index": member.index, "tls_fingerprint": issued.tls_fingerprint}
        unit.audit.append("member.certificate_issued", body, actor=member.member_id)
        return RenewalGrant(issued.tls_certificate.encode(), issued.identity_certificate.encode())

    def _issue(self, statement: RenewalStatement, member: Member) -> Renewal:
        fresh = verify_tls_request(statement.tls_request)
        if load_certificate(member.tls_certificate.encode()).public_key() == fresh:
            raise RenewalRefused("a renewal needs a fresh connection key")
        name = (member.member_id, statement.alliance_id.hex(), member.index, self._db.clock.now())
        tls = self._authority.issue_member_tls(fresh, *name)
        identity = self._authority.issue_member_identity(public_from_hex(member.public_key), *name)
        return Renewal(
            index=member.index,
            tls_fingerprint=fingerprint(tls),
            identity_fingerprint=fingerprint(identity),
            tls_certificate=to_pem(tls).decode(),
            identity_certificate=to_pem(identity).decode(),
            issued_at=self._db.clock.now(),
        )

    def _note(self, peer: Peer, refusal: TouchstoneError) -> None:
        body = {"index": peer.index, "code": refusal.code}
        self._db.write(
            "note_refusal",
            lambda unit: unit.audit.append("member.renewal_refused", body, actor=peer.member_id),
        )


def _check_same(statement: RenewalStatement, member: Member, peer: Peer, alliance_id: str) -> None:
    """Refuse everything that would be more than a continuation of the member on this connection."""
    if statement.alliance_id.hex() != alliance_id:
        raise RenewalRefused("the renewal is for a member of another alliance")
    if (statement.index, statement.member_id) != (member.index, member.member_id):
        raise RenewalRefused("the renewal is for another member")
    if statement.identity_key.hex() != member.public_key:
        raise RenewalRefused(
            "the renewal names another identity key than the member's",
            hint="an identity key cannot be replaced; it takes an invitation under a new name",
        )
    carried = peer.fingerprint.replace(":", "").lower()
    if not hmac.compare_digest(statement.current.hex(), carried):
        raise RenewalRefused("the renewal was signed for another connection's certificate")
