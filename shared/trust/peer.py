"""Who is at the other end of a connection, according to its certificate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from shared.errors import AuthError
from shared.trust.certificates import (
    check_issued_by,
    fingerprint,
    load_certificate,
    member_name,
    tls_public_key,
)
from shared.trust.errors import CertificateRefused


@dataclass(frozen=True)
class Peer:
    """An authenticated member: index from 1, member id, fingerprint of its TLS certificate."""

    index: int
    member_id: str
    fingerprint: str


def peer_pem(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the client certificate of a gRPC ``auth_context()``, as PEM.

    Raises:
        AuthError: the connection has none, so it is not mutual TLS.
    """
    found = list(auth_context.get("x509_pem_cert", ()))
    if len(found) != 1:
        raise AuthError(
            "this connection carries no member certificate",
            hint="join the alliance first: touchstone-participant join",
        )
    return bytes(found[0])


def peer_of(pem: bytes, *, authority: x509.Certificate, alliance_id: str, at: datetime) -> Peer:
    """Return the member that ``pem`` names, once the alliance's authority vouches for it.

    Says nothing about revocation, which only the coordinator's database knows.

    Raises:
        CertificateRefused: unreadable, another issuer or alliance, expired, or not a member's
            connection certificate.
    """
    certificate = load_certificate(pem)
    check_issued_by(certificate, authority, at)
    tls_public_key(certificate)
    name = member_name(certificate)
    if name.alliance_id != alliance_id:
        raise CertificateRefused("the certificate belongs to another alliance")
    return Peer(name.index, name.member_id, fingerprint(certificate))
