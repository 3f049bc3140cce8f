"""Checks what a coordinator issues: the pinned authority's, for this member, over its own keys."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.errors import VerificationError
from shared.trust.certificates import (
    MemberName,
    check_issued_by,
    identity_public_key,
    load_certificate,
    member_name,
    tls_public_key,
)


def check_issued(
    tls_pem: bytes,
    identity_pem: bytes,
    *,
    authority: x509.Certificate,
    name: MemberName,
    tls_key: EllipticCurvePublicKey,
    identity_key: Ed25519PublicKey,
    at: datetime,
) -> None:
    """Accept only a member's two certificates, over exactly the keys that were sent.

    Args:
        tls_pem: the certificate for connections.
        identity_pem: the certificate of the signing key.
        authority: the alliance's, as pinned when joining.
        name: who this member is.
        tls_key: what was sent for the connections.
        identity_key: what this member signs with.
        at: the time at which both must be valid.

    Raises:
        CertificateRefused: a certificate is unreadable, not the authority's or not valid.
        VerificationError: it is for another member, or over another key.
    """
    tls, identity = load_certificate(tls_pem), load_certificate(identity_pem)
    for certificate in (tls, identity):
        check_issued_by(certificate, authority, at)
        if member_name(certificate) != name:
            raise VerificationError("the coordinator issued a certificate for another member")
    if (tls_public_key(tls), identity_public_key(identity)) != (tls_key, identity_key):
        raise VerificationError("the coordinator certified other keys than this member's")
