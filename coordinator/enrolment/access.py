"""Who may come in through the members' port, asked anew for every connection."""

from __future__ import annotations

import hmac
from pathlib import Path

from cryptography import x509

from coordinator.db import Database, Unit
from coordinator.db.records import Member, MemberStatus
from coordinator.enrolment.files import load_ca
from shared.clock import Clock
from shared.errors import AuthError, MemberRevoked
from shared.trust.certificates import alliance_id_of
from shared.trust.peer import Peer, peer_of


class Gatekeeper:
    """Turns a connection's certificate into a member of this alliance, or refuses it.

    Args:
        db: knows who joined and who was revoked.
        authority: the certificate that must have issued the caller's.
        clock: decides on expiry; the database's by default.
    """

    def __init__(
        self, db: Database, authority: x509.Certificate, clock: Clock | None = None
    ) -> None:
        self._db = db
        self._authority = authority
        self._alliance_id = alliance_id_of(authority)
        self._clock = clock or db.clock

    @classmethod
    def open(cls, state_dir: Path, db: Database, clock: Clock | None = None) -> Gatekeeper:
        """Return the gatekeeper of a coordinator's folder; raises :class:`NotFound`."""
        return cls(db, load_ca(state_dir), clock)

    def admit(self, pem: bytes) -> Peer:
        """Return the member whose connection carries the certificate ``pem``.

        Raises:
            MemberRevoked: the member was revoked.
            CertificateRefused: not issued by this alliance, expired, or of the wrong kind.
            AuthError: issued here, but not the certificate this database knows.
        """
        peer = peer_of(
            pem, authority=self._authority, alliance_id=self._alliance_id, at=self._clock.now()
        )
        if self._db.read("admit", lambda unit: _is_renewed(unit, peer)):
            self._db.write("switch_certificate", lambda unit: _switch(unit, peer))
        return peer

    def check(self, index: int) -> None:
        """Check that an admitted member still belongs; for streams that stay open for days.

        Raises:
            MemberRevoked: it was revoked in the meantime.
            AuthError: there is no such member.
        """
        member = self._db.read("check_member", lambda unit: unit.members.by_index(index))
        if member is None:
            raise AuthError("the coordinator does not know this member")
        _check_active(member)


def _is_renewed(unit: Unit, peer: Peer) -> bool:
    """Tell whether an active member comes with a renewed certificate for the first time.

    Raises:
        MemberRevoked: the member was revoked.
        AuthError: the certificate is neither its current one nor a renewed one.
    """
    member = unit.members.by_index(peer.index)
    if member is None or member.member_id != peer.member_id:
        raise AuthError(
            "the coordinator does not know this certificate",
            hint="its database may have been restored from an older backup",
        )
    _check_active(member)
    if hmac.compare_digest(member.tls_fingerprint, peer.fingerprint):
        return False
    if not unit.renewals.has(peer.index, peer.fingerprint):
        raise AuthError(
            "this certificate is not the member's current one",
            hint="keys/ may be from a backup older than the last renewal; restore a newer one",
        )
    return True


def _switch(unit: Unit, peer: Peer) -> None:
    """Make the renewed certificate the member's own; from here on the old one is refused."""
    if _is_renewed(unit, peer):  # no other connection was first
        unit.renewals.switch(peer.index, peer.fingerprint)
        body = {"index": peer.index, "tls_fingerprint": peer.fingerprint}
        unit.audit.append("member.certificate_replaced", body, actor=peer.member_id)


def _check_active(member: Member) -> None:
    if member.status is MemberStatus.REVOKED:
        raise MemberRevoked(
            f"the member {member.member_id!r} has been revoked",
            hint="talk to the operator; coming back takes an invitation under a new name",
        )
