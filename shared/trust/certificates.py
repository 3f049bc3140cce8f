"""Reading certificates and deciding whether the alliance vouches for them.

The chain has exactly one link (the authority has path length 0), so the whole of RFC 5280's
path validation that applies is: issuer and signature, validity, basic constraints, usage, name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import TouchstoneError
from shared.limits import MAX_CERTIFICATE_BYTES
from shared.trust.errors import CertificateRefused
from shared.trust.names import check_member_id

_MEMBER_URI = re.compile(r"touchstone://([0-9a-f]{32})/member/([1-9][0-9]{0,9})")


@dataclass(frozen=True)
class MemberName:
    """What a member's certificate says about its holder."""

    alliance_id: str
    index: int
    member_id: str


def member_uri(alliance_id: str, index: int) -> str:
    """Return the subject alternative name of a member's certificates."""
    return f"touchstone://{alliance_id}/member/{index}"


def to_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_certificate(pem: bytes) -> x509.Certificate:
    """Return the one certificate in ``pem``.

    Raises:
        CertificateRefused: too large, unreadable, or more than one.
    """
    if len(pem) > MAX_CERTIFICATE_BYTES:
        raise CertificateRefused("the certificate is too large")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateRefused("the certificate cannot be read") from error
    if len(found) != 1:
        raise CertificateRefused(f"expected one certificate, found {len(found)}")
    return found[0]


def fingerprint(certificate: x509.Certificate) -> str:
    """Return SHA-256 over the DER encoding as upper-case hex pairs joined by colons."""
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
    return digest.hex(":").upper()


def alliance_id_of(authority: x509.Certificate) -> str:
    """Return an alliance's id: the first 16 bytes of its authority's fingerprint, in hex."""
    return fingerprint(authority).replace(":", "").lower()[:32]


def normal_fingerprint(text: str) -> str:
    """Return a fingerprint as typed by a person in the form of :func:`fingerprint`.

    Raises:
        CertificateRefused: it is not 32 bytes in hex, with or without colons.
    """
    plain = text.strip().removeprefix("SHA256:").removeprefix("sha256:").replace(":", "")
    try:
        raw = bytes.fromhex(plain)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise CertificateRefused(
            "a fingerprint is 32 bytes in hex, such as AB:CD:…",
            hint="copy the line that the coordinator's init printed",
        )
    return raw.hex(":").upper()


def check_issued_by(
    certificate: x509.Certificate, authority: x509.Certificate, at: datetime
) -> None:
    """Check issuer, signature, validity at ``at`` and that the holder is no authority itself.

    Raises:
        CertificateRefused: one of them does not hold.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateRefused(
            "the certificate was not issued by this alliance",
            hint="a member of another alliance needs an invitation of its own",
        ) from error
    check_validity(certificate, at)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise CertificateRefused("the certificate lacks its basic constraints") from error
    if constraints.ca:
        raise CertificateRefused("an authority's certificate cannot stand for a member")


def check_validity(certificate: x509.Certificate, at: datetime) -> None:
    """Check that ``at`` lies in the certificate's period.

    Raises:
        CertificateRefused: it is not valid yet, or no longer.
    """
    if at < certificate.not_valid_before_utc:
        raise CertificateRefused(
            "the certificate is not valid yet", hint="check the clocks of both machines"
        )
    if at > certificate.not_valid_after_utc:
        raise CertificateRefused(
            "the certificate has expired", hint="ask the coordinator for a new invitation"
        )


def days_left(certificate: x509.Certificate, at: datetime) -> float:
    """Return the days until the certificate expires; negative once it has."""
    return (certificate.not_valid_after_utc - at).total_seconds() / 86_400


def renewal_due(certificate: x509.Certificate, at: datetime) -> bool:
    """Tell whether less than a third of the certificate's lifetime is left.

    The usual point of automatic renewal: early enough for a member that is rarely on line.
    """
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - at < lifetime / 3


def spki_digest(key: EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key's DER encoding in hex (RFC 5280, SubjectPublicKeyInfo)."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def member_name(certificate: x509.Certificate) -> MemberName:
    """Return whom a member's certificate names; says nothing about who issued it.

    Raises:
        CertificateRefused: the name is missing, repeated or not in this project's form.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        (uri,), (name,) = uris, common
        found = _MEMBER_URI.fullmatch(uri)
        if found is None:
            raise CertificateRefused("the certificate does not name a member")
        return MemberName(found[1], int(found[2]), check_member_id(str(name.value)))
    except (x509.ExtensionNotFound, ValueError, TouchstoneError) as error:
        raise CertificateRefused("the certificate does not name a member") from error


def tls_public_key(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    """Return the key of a member's TLS certificate: P-256 and marked for TLS clients.

    Raises:
        CertificateRefused: another kind of key or purpose, such as the identity certificate.
    """
    key = certificate.public_key()
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise CertificateRefused("the certificate does not say what it is for") from error
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise CertificateRefused("the certificate is not meant for members' connections")
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise CertificateRefused("a connection's certificate must hold an ECDSA P-256 key")
    return key


def identity_public_key(certificate: x509.Certificate) -> Ed25519PublicKey:
    """Return the Ed25519 key of a member's identity certificate.

    Raises:
        CertificateRefused: it holds another kind of key.
    """
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateRefused("an identity certificate must hold an Ed25519 key")
    return key
