"""Private keys on disk: PKCS#8 PEM, mode 0600, written atomically, optionally encrypted."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import VerificationError
from shared.files import storage_error, write_atomic
from shared.limits import MAX_KEY_FILE_BYTES
from shared.trust.errors import KeyUnreadable

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


def new_tls_key() -> EllipticCurvePrivateKey:
    """Return a fresh ECDSA key on P-256, which every TLS stack in use verifies."""
    return generate_private_key(SECP256R1())


def new_identity_key() -> Ed25519PrivateKey:
    """Return a fresh Ed25519 signing key."""
    return Ed25519PrivateKey.generate()


def private_folder(folder: Path) -> Path:
    """Create ``folder`` (and parents) if absent and make it mode 0700.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise storage_error(error, folder) from error
    return folder


def encode_key(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return ``key`` as PKCS#8 PEM, encrypted (PBES2) under a passphrase."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def write_key(path: Path, key: PrivateKey, passphrase: bytes | None = None) -> None:
    """Write ``key`` to ``path``, mode 0600.

    Raises:
        StorageError: the disk refuses; nothing is left behind.
    """
    write_atomic(path, encode_key(key, passphrase), mode=0o600)


def _load(path: Path, passphrase: bytes | None) -> object:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise KeyUnreadable(f"the key file {path.name} is missing") from error
    except OSError as error:
        raise KeyUnreadable(f"the key file {path.name} cannot be read") from error
    if mode & 0o077:
        raise KeyUnreadable(
            f"the key file {path.name} can be read by others (mode {mode:04o})",
            hint=f"run chmod 600 on {path.name}; if others had access, replace the key",
        )
    if len(data) > MAX_KEY_FILE_BYTES:
        raise KeyUnreadable(f"the key file {path.name} is too large to be a key")
    try:
        return serialization.load_pem_private_key(data, passphrase or None)
    except TypeError as error:
        raise KeyUnreadable(
            f"the key file {path.name} and the passphrase do not go together",
            hint="an encrypted key needs a passphrase file, a plain one must have none",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnreadable(
            f"the key file {path.name} is damaged or its passphrase is another",
            hint="restore it from a backup, or check the passphrase file",
        ) from error


def load_tls_key(path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """Read an ECDSA P-256 key.

    Raises:
        KeyUnreadable: missing, damaged, readable by others, encrypted otherwise or another kind.
    """
    key = _load(path, passphrase)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise KeyUnreadable(f"the key file {path.name} does not hold an ECDSA P-256 key")
    return key


def load_identity_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read an Ed25519 key.

    Raises:
        KeyUnreadable: missing, damaged, readable by others, encrypted otherwise or another kind.
    """
    key = _load(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnreadable(f"the key file {path.name} does not hold an Ed25519 key")
    return key


def ensure_tls_key(path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """Return the ECDSA P-256 key at ``path``, made and written first if there is none.

    Raises:
        KeyUnreadable: there is a file, but not such a key.
        StorageError: the disk refuses the new key.
    """
    if not path.exists():
        write_key(path, new_tls_key(), passphrase)
    return load_tls_key(path, passphrase)


def ensure_identity_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Return the Ed25519 key at ``path``, made and written first if there is none.

    Raises:
        KeyUnreadable: there is a file, but not such a key.
        StorageError: the disk refuses the new key.
    """
    if not path.exists():
        write_key(path, new_identity_key(), passphrase)
    return load_identity_key(path, passphrase)


def read_passphrase(path: Path | None) -> bytes | None:
    """Return the first line of a passphrase file, or nothing when no file is named.

    Raises:
        KeyUnreadable: the file is missing, empty or readable by others.
    """
    if path is None:
        return None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise KeyUnreadable(f"the passphrase file {path.name} cannot be read") from error
    if mode & 0o077:
        raise KeyUnreadable(
            f"the passphrase file {path.name} can be read by others (mode {mode:04o})",
            hint=f"run chmod 600 on {path.name}",
        )
    if not lines or not lines[0]:
        raise KeyUnreadable(f"the passphrase file {path.name} is empty")
    return lines[0]


def public_hex(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """Return the raw 32-byte Ed25519 public key in lower-case hex."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes_raw().hex()


def public_from_hex(text: str) -> Ed25519PublicKey:
    """Return the Ed25519 public key of 64 hex digits.

    Raises:
        VerificationError: these are not 32 bytes in hex.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError as error:
        raise VerificationError("a public key is not 32 bytes in hex") from error
