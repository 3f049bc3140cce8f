"""A hash chain over audit events, as in RFC 6962's spirit but linear: each event names its past.

Every event's hash covers the hash of the event before it, so changing, removing or reordering
one event breaks every later hash. What a chain alone cannot show is that its *end* was cut off;
for that, note a head (sequence number and hash) elsewhere and pass it as ``anchor``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.encoding import Writer
from shared.errors import BadInput, VerificationError

GENESIS = bytes(32)
"""What stands for the hash before the first event."""

_DOMAIN = "touchstone/audit-event/v1"


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """One event as stored.

    Attributes:
        seq: Place in the log, from 1 without gaps.
        at: RFC 3339 time, exactly the text that was hashed.
        kind: What happened, dotted lower case, from the owner's closed vocabulary.
        body: Details; JSON values only.
        prev_hash: 32 bytes, the hash of the event before, or :data:`GENESIS`.
        hash: 32 bytes, :func:`event_hash` of all of the above.
    """

    seq: int
    at: str
    kind: str
    body: Mapping[str, Any]
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a verified chain: how many events, and the hash of the last."""

    seq: int
    hash: bytes


def canonical_body(body: Mapping[str, Any]) -> str:
    """Return the one JSON text of ``body``: sorted keys, no spaces, UTF-8, finite numbers.

    Raises:
        BadInput: a value has no JSON form, or a number is not finite.
    """
    try:
        return json.dumps(
            body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise BadInput("an audit event's body is not JSON", detail=str(error)) from error


def event_hash(prev_hash: bytes, seq: int, at: str, kind: str, body: Mapping[str, Any]) -> bytes:
    """Return SHA-256 over the canonical encoding of one event, 32 bytes.

    Args:
        prev_hash: 32 bytes, the hash of the event before, or :data:`GENESIS`.
        seq: Place in the log, from 1.
        at: RFC 3339 time as stored.
        kind: What happened.
        body: JSON-able details.

    Raises:
        BadInput: the body is not JSON.
        ValueError: ``prev_hash`` is not 32 bytes long.
    """
    writer = Writer(_DOMAIN).fixed(prev_hash, 32).u64(seq).text(at).text(kind)
    return hashlib.sha256(writer.text(canonical_body(body)).done()).digest()


def verify_chain(events: Iterable[ChainedEvent], *, anchor: Head | None = None) -> Head:
    """Prove that ``events`` are one unbroken chain from the first event on.

    Args:
        events: All events in stored order; read once, so a generator will do.
        anchor: A head noted earlier; the chain must still pass through it.

    Returns:
        The chain's head; ``Head(0, GENESIS)`` for an empty log without an anchor.

    Raises:
        VerificationError: an event is missing, out of order or altered, or the chain does not
            reach the anchor.
    """
    head = Head(0, GENESIS)
    met = anchor is None or anchor == head
    for event in events:
        head = _next_head(head, event)
        if anchor is not None and head.seq == anchor.seq:
            met = hmac.compare_digest(head.hash, anchor.hash)
    if not met:
        raise VerificationError(
            "the audit log does not contain the noted head",
            hint="events were cut off or rewritten since that head was noted",
        )
    return head


def _next_head(head: Head, event: ChainedEvent) -> Head:
    if event.seq != head.seq + 1:
        raise VerificationError(f"audit event {head.seq + 1} is missing")
    if not hmac.compare_digest(event.prev_hash, head.hash):
        raise VerificationError(f"audit event {event.seq} does not follow the one before it")
    expected = event_hash(event.prev_hash, event.seq, event.at, event.kind, event.body)
    if not hmac.compare_digest(event.hash, expected):
        raise VerificationError(f"audit event {event.seq} was altered")
    return Head(event.seq, event.hash)
