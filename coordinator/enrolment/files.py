"""The coordinator's keys and certificates on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.config import CoordinatorConfig
from shared.errors import NotFound
from shared.trust.authority import Authority
from shared.trust.certificates import load_certificate
from shared.trust.keys import encode_key, load_identity_key, load_tls_key


@dataclass(frozen=True)
class KeyFiles:
    """Paths inside ``<dir>/keys``."""

    folder: Path

    @classmethod
    def of(cls, state_dir: Path) -> KeyFiles:
        """Return the paths of a coordinator's folder."""
        return cls(state_dir / "keys")

    @property
    def ca_key(self) -> Path:
        """The authority's private key."""
        return self.folder / "ca.key.pem"

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def server_key(self) -> Path:
        """The TLS server's private key."""
        return self.folder / "server.key.pem"

    @property
    def server(self) -> Path:
        """The TLS server's certificate."""
        return self.folder / "server.pem"

    @property
    def signing_key(self) -> Path:
        """The Ed25519 key that signs manifests, requests and releases."""
        return self.folder / "signing.key.pem"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {path.name} in {path.parent}",
            hint="run touchstone-coordinator init first",
        ) from error


def load_ca(state_dir: Path) -> x509.Certificate:
    """Return the authority's certificate.

    Raises:
        NotFound: no alliance has been founded in this folder.
        CertificateRefused: the file is damaged.
    """
    return load_certificate(_read(KeyFiles.of(state_dir).ca))


def load_authority(state_dir: Path) -> Authority:
    """Return the authority, ready to sign.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: its key cannot be used.
    """
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    certificate = load_ca(state_dir)
    return Authority(load_tls_key(KeyFiles.of(state_dir).ca_key, passphrase), certificate)


def load_signing_key(state_dir: Path) -> Ed25519PrivateKey:
    """Return the coordinator's signing key; raises :class:`KeyUnreadable`."""
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    return load_identity_key(KeyFiles.of(state_dir).signing_key, passphrase)


def load_server_pair(state_dir: Path) -> tuple[bytes, bytes]:
    """Return the server's private key and certificate as plain PEM, for memory only.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: the key cannot be used.
    """
    files = KeyFiles.of(state_dir)
    certificate = _read(files.server)
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    return encode_key(load_tls_key(files.server_key, passphrase)), certificate
