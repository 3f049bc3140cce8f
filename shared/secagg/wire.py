"""The one envelope of every message, both ways: what, where, from whom, signed.

The signature covers the domain (with the message's kind), run, session, ordinal, sender and
body, so no message can be moved to another step, session or sender.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Peek:
    """What an envelope claims, not verified: enough to find the session it is for."""

    kind: str
    run_id: bytes
    session_id: bytes
    ordinal: int
    sender: int


def seal(kind: str, terms: SessionTerms, sender: int, body: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a signed message."""
    writer = Writer(DOMAIN + kind).fixed(terms.run_id, 16).fixed(terms.session_id, 16)
    signed = writer.u32(terms.ordinal).u32(sender).blob(body).done()
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


def peek(data: bytes) -> Peek:
    """Read a message's envelope without trusting it.

    Raises:
        MalformedMessage: not an envelope of the secure sum.
    """
    return _read(data)[0]


def open_signed(data: bytes, kind: str, terms: SessionTerms, sender: int) -> bytes:
    """Verify a message and return its body.

    Raises:
        BadMessage: not an envelope, with ``sender`` as the culprit.
        BadSignature: another kind, session or sender, or a signature that does not hold.
    """
    try:
        head, body = _read(data)
    except MalformedMessage as error:
        raise BadMessage(error.message, culprit=sender) from error
    expected = Peek(kind, terms.run_id, terms.session_id, terms.ordinal, sender)
    if head != expected:
        raise BadSignature(f"this is not a {kind} message of member {sender} in this session")
    verify(terms.key_of(sender), data[-_SIGNATURE_BYTES:], data[:-_SIGNATURE_BYTES], sender)
    return body


def verify(key: bytes, signature: bytes, signed: bytes, culprit: int) -> None:
    """Check an Ed25519 signature; raise BadSignature naming ``culprit``."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"a signature of {culprit} does not hold", culprit=culprit) from error
