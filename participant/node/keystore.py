"""The member's own keys and certificates: made here, never sent anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from participant.node.config import NodeConfig
from shared.errors import StateError
from shared.trust.certificates import fingerprint, load_certificate
from shared.trust.errors import FingerprintMismatch
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
        """The ECDSA P-256 key of the connections."""
        return self.folder / "tls.key.pem"

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


def _certificate(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise StateError(
            f"the certificate {path.name} is missing", hint="restore keys/ from a backup"
        ) from error


def _passphrase(config: NodeConfig) -> bytes | None:
    named = config.keys.passphrase_file
    return read_passphrase(Path(named)) if named else None


def identity_key(state_dir: Path) -> Ed25519PrivateKey:
    """Return the key this member signs with.

    Raises:
        StateError: the folder has not joined an alliance.
        KeyUnreadable: the key file cannot be used.
    """
    passphrase = _passphrase(NodeConfig.load(state_dir))
    return load_identity_key(KeyStore.of(state_dir).identity_key, passphrase)


def coordinator_key(state_dir: Path) -> Ed25519PublicKey:
    """Return the coordinator's signing key as learnt when joining; raises :class:`StateError`."""
    return public_from_hex(NodeConfig.load(state_dir).alliance.coordinator_public_key)


def channel_credentials(state_dir: Path) -> grpc.ChannelCredentials:
    """Return what a connection to the coordinator needs: own certificate, alliance's authority.

    Raises:
        StateError: the folder has not joined, or a certificate is missing.
        FingerprintMismatch: ``ca.pem`` is not the authority this member joined.
        KeyUnreadable: the key file cannot be used.
    """
    config, files = NodeConfig.load(state_dir), KeyStore.of(state_dir)
    ca_pem = _certificate(files.ca)
    if fingerprint(load_certificate(ca_pem)) != config.alliance.ca_fingerprint:
        raise FingerprintMismatch("ca.pem is not the authority of the alliance this node joined")
    return grpc.ssl_channel_credentials(
        root_certificates=ca_pem,
        private_key=encode_key(load_tls_key(files.tls_key, _passphrase(config))),
        certificate_chain=_certificate(files.tls),
    )
