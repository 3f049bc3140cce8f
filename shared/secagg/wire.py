"""The one envelope of every message, both ways: what, where, from whom, signed.

The signature covers the domain (with the message's kind), run, session, ordinal, sender and
body, so no message can be moved to another step, session or sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_SECAGG_FIELD_BYTES
from shared.secagg.errors import BadMessage, BadSignature
from shared.secagg.terms import DOMAIN, SessionTerms

ADVERTISE = "advertise"
SHARE = "share"
CONFIRM = "confirm"
MASKED = "masked"
UNMASK = "unmask"
RELEASE = "release"
REQUESTS = frozenset({ADVERTISE, SHARE, CONFIRM, MASKED, UNMASK, RELEASE})
"""Requests; a reply's kind is ``<request>-reply``, or one of the two below."""

COMPLAINT = "complaint"
SURVIVORS = "survivors"

_SIGNATURE_BYTES = 64
_KEYS_LOADED = 1024


@dataclass(frozen=True)
class Peek:
    """What an envelope claims, not verified: enough to find the session it is for."""

    kind: str
    run_id: bytes
    session_id: bytes
    ordinal: int
    sender: int


def signed_bytes(kind: str, terms: SessionTerms, sender: int, body: bytes) -> bytes:
    """Return what a message's signature covers: all of it but the signature."""
    writer = Writer(DOMAIN + kind).fixed(terms.run_id, 16).fixed(terms.session_id, 16)
    return writer.u32(terms.ordinal).u32(sender).blob(body).done()


def seal(kind: str, terms: SessionTerms, sender: int, body: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a signed message."""
    signed = signed_bytes(kind, terms, sender, body)
    return signed + key.sign(signed)


def _read(data: bytes) -> tuple[Peek, bytes]:
    reader = Reader(data)
    domain = reader.text(limit=64)
    if not domain.startswith(DOMAIN):
        raise MalformedMessage("this is not a message of the secure sum")
    head = Peek(
        domain[len(DOMAIN) :], reader.fixed(16), reader.fixed(16), reader.u32(), reader.u32()
    )
    body = reader.blob(MAX_SECAGG_FIELD_BYTES)
    reader.fixed(_SIGNATURE_BYTES)
    reader.end()
    return head, body


def signature_of(data: bytes) -> bytes:
    """Return an envelope's 64-byte Ed25519 signature, not verified."""
    return data[-_SIGNATURE_BYTES:]


def verified_body(data: bytes) -> bytes:
    """Return the body of a message whose signature was checked before it was stored."""
    return _read(data)[1]


def peek(data: bytes) -> Peek:
    """Read a message's envelope without trusting it.

    Raises:
        MalformedMessage: not an envelope of the secure sum.
    """
    return _read(data)[0]


def open_signed(
    data: bytes, kind: str, terms: SessionTerms, sender: int, *, blame: int | None = None
) -> bytes:
    """Verify a message and return its body.

    Args:
        data: the whole message.
        kind: what it must be.
        terms: the session it must be of, and the senders' keys.
        sender: who must have signed it.
        blame: who is named for a defect; the sender unless somebody else passed it on.

    Raises:
        BadMessage: not an envelope.
        BadSignature: another kind, session or sender, or a signature that does not hold.
    """
    culprit = sender if blame is None else blame
    try:
        head, body = _read(data)
    except MalformedMessage as error:
        raise BadMessage(error.message, culprit=culprit) from error
    expected = Peek(kind, terms.run_id, terms.session_id, terms.ordinal, sender)
    if head != expected:
        raise BadSignature(
            f"this is not a {kind} message of member {sender} in this session", culprit=culprit
        )
    verify(terms.key_of(sender), data[-_SIGNATURE_BYTES:], data[:-_SIGNATURE_BYTES], culprit)
    return body


@lru_cache(_KEYS_LOADED)
def _load(key: bytes) -> Ed25519PublicKey:
    """Return a member's key, loaded once: it signs several messages a round."""
    return Ed25519PublicKey.from_public_bytes(key)


def verify(key: bytes, signature: bytes, signed: bytes, culprit: int) -> None:
    """Check an Ed25519 signature; raise BadSignature naming ``culprit``."""
    try:
        _load(key).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("a signature does not hold", culprit=culprit) from error
