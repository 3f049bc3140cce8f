"""Key schedule, commitments and the authenticated boxes of the secure sum.

Every key is HKDF-SHA256 (RFC 5869) with its own label and the indices it is for, 32 bytes. Every
AEAD key encrypts exactly one message, so its ChaCha20-Poly1305 nonce is zero (RFC 8439).
"""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305

from shared.encoding import Writer
from shared.secagg.shamir import encode_element
from shared.secagg.terms import DOMAIN

KEY_BYTES = 32
X25519_BYTES = 32
KEM_KEY_BYTES = 1184
KEM_CIPHERTEXT_BYTES = 1088
TAG_BYTES = 16
CHECKSUM_BYTES = KEY_BYTES + TAG_BYTES
_NONCE = bytes(12)


@cache
def _head(label: str) -> bytes:
    return Writer(DOMAIN + label).done()


def _derive(secret: bytes, salt: bytes, label: str, context: bytes, *indices: int) -> bytes:
    info = _head("key/" + label) + Writer().blob(context).u32s(indices).done()
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, info).derive(secret)


def pair_seed(rho: int, peer: int) -> bytes:
    """Return kappa for the higher-indexed ``peer``: HKDF(rho, "pair" peer)."""
    return _derive(encode_element(rho), b"", "pair", b"", peer)


def recovery_key(rho: int, t1c: bytes) -> bytes:
    """Return the key of Rec: HKDF(rho, "rec" T1c)."""
    return _derive(encode_element(rho), b"", "rec", t1c)


def self_mask_key(b: int, t2: bytes, index: int) -> bytes:
    """Return the AES-256 key of a member's own mask: HKDF(b, salt T2, "self" u)."""
    return _derive(encode_element(b), t2, "self", b"", index)


def pair_mask_key(seed: bytes, t2: bytes, low: int, high: int) -> bytes:
    """Return the AES-256 key of a pair's mask: HKDF(kappa, salt T2, "mask" low high)."""
    return _derive(seed, t2, "mask", b"", low, high)


def box_key(x25519_secret: bytes, kem_secret: bytes, t1: bytes, dealer: int, to: int) -> bytes:
    """Return a box's key: HKDF(X25519 || ML-KEM, salt T1, "box" u v)."""
    return _derive(x25519_secret + kem_secret, t1, "box", b"", dealer, to)


def agree(private: bytes, public: bytes) -> bytes:
    """Return the X25519 shared secret (RFC 7748), 32 bytes.

    Raises:
        ValueError: wrong length, or a low-order key (the secret would be zero).
    """
    return BoxKeys(private).agree(public)


class BoxKeys:
    """A member's session keys, loaded once: parsing them costs more than using them.

    Args:
        x25519: raw private key, 32 bytes.
        kem_seed: ML-KEM-768 seed, 64 bytes; left out where nothing has to be opened.
    """

    def __init__(self, x25519: bytes, kem_seed: bytes = b"") -> None:
        self._x25519 = X25519PrivateKey.from_private_bytes(x25519)
        self._kem = MLKEM768PrivateKey.from_seed_bytes(kem_seed) if kem_seed else None

    def agree(self, public: bytes) -> bytes:
        """Return the X25519 shared secret; raises as :func:`agree`."""
        return self._x25519.exchange(X25519PublicKey.from_public_bytes(public))

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the ML-KEM-768 shared secret; raises ValueError for a wrong length."""
        if self._kem is None:
            raise ValueError("there is no key to open the ciphertext with")
        return self._kem.decapsulate(ciphertext)


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return an ML-KEM-768 (shared secret, ciphertext); raises ValueError for a bad key."""
    secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    return secret, ciphertext


def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """Return the ML-KEM-768 shared secret; raises ValueError for a wrong length."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)


def encrypt(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt the only message ``key`` is ever used for."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, associated)


def decrypt(key: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Open what :func:`encrypt` made; raises ValueError if it was altered."""
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, ciphertext, associated)
    except InvalidTag as error:
        raise ValueError("an authenticated box does not open") from error


def sha256(domain: str, *parts: bytes) -> bytes:
    """Return SHA-256 over ``DOMAIN + domain`` and length-prefixed parts, 32 bytes."""
    pieces = [_head(domain)]
    for part in parts:
        pieces += (len(part).to_bytes(4, "big"), part)
    return hashlib.sha256(b"".join(pieces)).digest()


def checksum(data: bytes | memoryview) -> bytes:
    """Return a fresh Poly1305 key and its tag of ``data`` (RFC 8439), 48 bytes.

    For what this process stores and reads back: other data passes with probability below 2^-75,
    at a sixth of what SHA-256 costs. It binds nobody, since its key stands beside it; whatever is
    published or signed is hashed.
    """
    key = secrets.token_bytes(KEY_BYTES)
    return key + Poly1305.generate_tag(key, data)


def check_checksum(data: bytes | memoryview, expected: bytes) -> None:
    """Hold ``data`` against its :func:`checksum`; raises ValueError if it is other data."""
    try:
        Poly1305.verify_tag(expected[:KEY_BYTES], data, expected[KEY_BYTES:])
    except InvalidSignature as error:
        raise ValueError("the data is not what its checksum was made of") from error


_LEAF = {which: _head(f"leaf/{which}") for which in ("b", "rho")}
_NODE = _head("share")


def share_leaf(which: str, share: bytes) -> bytes:
    """Return the hash of one 32-byte share; ``which`` is "b" or "rho"."""
    return hashlib.sha256(_LEAF[which] + share).digest()


def share_hash(b_leaf: bytes, rho_leaf: bytes) -> bytes:
    """Return the hash a dealer signs for one (slot, recipient): a tree of two leaves.

    Either share is proven with the other's leaf, so that revealing one never needs the other.
    """
    return hashlib.sha256(_NODE + b_leaf + rho_leaf).digest()


def commit_self(b: int) -> bytes:
    """Return H(b)."""
    return sha256("commit/b", encode_element(b))


def commit_pair(seed: bytes) -> bytes:
    """Return H(kappa)."""
    return sha256("commit/pair", seed)
