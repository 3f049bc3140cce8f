"""The member's own keys and certificates: made here, never sent anywhere.

The certificate of the connections names its key: a renewed key lies in a file called after it, so
that renewing is complete with one rename, that of the certificate, and key and certificate fit at
any moment (docs/adr/0016-certificate-renewal.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from participant.node.config import NodeConfig
from shared.errors import StateError
from shared.trust.certificates import (
    fingerprint,
    load_certificate,
    spki_digest,
    tls_public_key,
)
from shared.trust.errors import FingerprintMismatch, KeyUnreadable
from shared.trust.keys import (
    encode_key,
    load_identity_key,
    load_tls_key,
    public_from_hex,
    read_passphrase,
)


@dataclass(frozen=True)
class KeyStore:
    """Paths inside ``<dir>/keys``."""

    folder: Path

    @classmethod
    def of(cls, state_dir: Path) -> KeyStore:
        """Return the paths of a member's folder."""
        return cls(state_dir / "keys")

    @property
    def tls_key(self) -> Path:
        """The ECDSA P-256 key of the connections that was made when joining."""
        return self.folder / "tls.key.pem"

    def renewed_key(self, key: EllipticCurvePublicKey) -> Path:
        """Where the private key of a renewed certificate lies."""
        return self.folder / f"tls-{spki_digest(key)[:16]}.key.pem"

    def tls_keys(self) -> list[Path]:
        """Return every connection key here: the one in use and what a killed renewal left."""
        return [
            path for path in (self.tls_key, *self.folder.glob("tls-*.key.pem")) if path.exists()
        ]

    def leftovers(self) -> list[Path]:
        """Return files that a killed process was still writing; a key may be in one."""
        return list(self.folder.glob(".*.part"))

    @property
    def tls(self) -> Path:
        """Its certificate."""
        return self.folder / "tls.pem"

    @property
    def identity_key(self) -> Path:
        """The Ed25519 key the member signs with."""
        return self.folder / "identity.key.pem"

    @property
    def identity(self) -> Path:
        """Its certificate."""
        return self.folder / "identity.pem"

    @property
    def ca(self) -> Path:
        """The certificate of the alliance's authority."""
        return self.folder / "ca.pem"


@dataclass(frozen=True)
class ConnectionPair:
    """The connections' certificate and the private key that fits it.

    Attributes:
        pem: the certificate as it is on disk.
        certificate: the same, read.
        key_path: the key's file.
        key: the key itself.
    """

    pem: bytes
    certificate: x509.Certificate
    key_path: Path
    key: EllipticCurvePrivateKey = field(repr=False, compare=False)


READS = 3
"""Times a pair is read before it is called broken: a renewal may be replacing it just now."""


def connection_pair(state_dir: Path) -> ConnectionPair:
    """Return the certificate of this member's connections and its key.

    Raises:
        StateError: the folder has not joined an alliance, or a certificate is missing.
        CertificateRefused: the certificate is damaged.
        KeyUnreadable: the key cannot be used, or is not the certificate's.
    """
    files, secret = KeyStore.of(state_dir), passphrase(NodeConfig.load(state_dir))
    for _ in range(READS - 1):
        try:
            return _pair(files, secret)
        except KeyUnreadable:
            continue
    return _pair(files, secret)


def _pair(files: KeyStore, secret: bytes | None) -> ConnectionPair:
    pem = _certificate(files.tls)
    certificate = load_certificate(pem)
    public = tls_public_key(certificate)
    renewed = files.renewed_key(public)
    path = renewed if renewed.exists() else files.tls_key
    key = load_tls_key(path, secret)
    if key.public_key() != public:
        raise KeyUnreadable(
            f"the key {path.name} is not the one of the certificate {files.tls.name}",
            hint="restore keys/ as a whole from one backup",
        )
    return ConnectionPair(pem, certificate, path, key)


def _certificate(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StateError(
            f"the certificate {path.name} is missing", hint="restore keys/ from a backup"
        ) from error


def passphrase(config: NodeConfig) -> bytes | None:
    """Return what decrypts the private keys, or None; raises :class:`KeyUnreadable`."""
    named = config.keys.passphrase_file
    return read_passphrase(Path(named)) if named else None


def identity_key(state_dir: Path) -> Ed25519PrivateKey:
    """Return the key this member signs with.

    Raises:
        StateError: the folder has not joined an alliance.
        KeyUnreadable: the key file cannot be used.
    """
    secret = passphrase(NodeConfig.load(state_dir))
    return load_identity_key(KeyStore.of(state_dir).identity_key, secret)


def coordinator_key(state_dir: Path) -> Ed25519PublicKey:
    """Return the coordinator's signing key as learnt when joining; raises :class:`StateError`."""
    return public_from_hex(NodeConfig.load(state_dir).alliance.coordinator_public_key)


def pinned_authority(state_dir: Path) -> tuple[bytes, x509.Certificate]:
    """Return the certificate of the alliance's authority, as PEM and read.

    Raises:
        StateError: the folder has not joined, or the certificate is missing.
        FingerprintMismatch: ``ca.pem`` is not the authority this member joined.
    """
    pem = _certificate(KeyStore.of(state_dir).ca)
    certificate = load_certificate(pem)
    if fingerprint(certificate) != NodeConfig.load(state_dir).alliance.ca_fingerprint:
        raise FingerprintMismatch("ca.pem is not the authority of the alliance this node joined")
    return pem, certificate


def channel_credentials(
    state_dir: Path, pair: ConnectionPair | None = None
) -> grpc.ChannelCredentials:
    """Return what a connection to the coordinator needs: own certificate, alliance's authority.

    Args:
        state_dir: the member's state folder.
        pair: the certificate and key to use; by default what is on disk now.

    Raises:
        StateError: the folder has not joined, or a certificate is missing.
        FingerprintMismatch: ``ca.pem`` is not the authority this member joined.
        KeyUnreadable: the key file cannot be used.
    """
    ca_pem, _ = pinned_authority(state_dir)
    pair = pair or connection_pair(state_dir)
    return grpc.ssl_channel_credentials(
        root_certificates=ca_pem,
        private_key=encode_key(pair.key),
        certificate_chain=pair.pem,
    )
