"""The alliance's certificate authority: what it signs and for how long.

ECDSA P-256 throughout, because BoringSSL (inside gRPC) does not verify Ed25519 by default;
members' Ed25519 identity keys get a certificate of their own that no TLS stack needs to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from shared.trust.certificates import member_uri
from shared.trust.names import as_ip

CA_LIFETIME = timedelta(days=3650)
"""The authority: replacing it means enrolling everybody again."""

SERVER_LIFETIME = timedelta(days=825)
"""The longest that common TLS clients accept from a private authority."""

MEMBER_LIFETIME = timedelta(days=825)
"""A member's two certificates; revocation, not expiry, is what shuts a member out."""

CLOCK_SLACK = timedelta(minutes=5)
"""Certificates start this much in the past, for peers whose clock is behind."""

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def found_authority(key: EllipticCurvePrivateKey, name: str, at: datetime) -> x509.Certificate:
    """Return a self-signed authority certificate that may sign end entities only (pathlen 0)."""
    subject = _name(name)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - CLOCK_SLACK)
        .not_valid_after(at + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


@dataclass(frozen=True)
class Authority:
    """The authority's key and certificate, ready to sign."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue_server(
        self, public_key: EllipticCurvePublicKey, host: str, at: datetime
    ) -> x509.Certificate:
        """Return the coordinator's TLS certificate for ``host`` and for loopback."""
        names: list[x509.GeneralName] = []
        for entry in dict.fromkeys([host, "localhost", "127.0.0.1", "::1"]):
            address = as_ip(entry)
            names.append(x509.IPAddress(address) if address else x509.DNSName(entry))
        return self._issue(
            "coordinator",
            public_key,
            names,
            ExtendedKeyUsageOID.SERVER_AUTH,
            at,
            SERVER_LIFETIME,
        )

    def issue_member_tls(
        self,
        public_key: EllipticCurvePublicKey,
        member_id: str,
        alliance_id: str,
        index: int,
        at: datetime,
    ) -> x509.Certificate:
        """Return a member's certificate for its connections."""
        return self._issue(
            member_id,
            public_key,
            [x509.UniformResourceIdentifier(member_uri(alliance_id, index))],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            at,
            MEMBER_LIFETIME,
        )

    def issue_member_identity(
        self,
        public_key: Ed25519PublicKey,
        member_id: str,
        alliance_id: str,
        index: int,
        at: datetime,
    ) -> x509.Certificate:
        """Return the certificate of a member's signing key; of no use to a TLS stack."""
        names = [x509.UniformResourceIdentifier(member_uri(alliance_id, index))]
        return self._issue(member_id, public_key, names, None, at, MEMBER_LIFETIME)

    def _issue(
        self,
        common_name: str,
        public_key: PublicKey,
        names: list[x509.UniformResourceIdentifier] | list[x509.GeneralName],
        purpose: ObjectIdentifier | None,
        at: datetime,
        lifetime: timedelta,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - CLOCK_SLACK)
            .not_valid_after(min(at + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(self.key, hashes.SHA256())
