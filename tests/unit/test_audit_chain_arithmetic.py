from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest

from shared.audit.chain import (
    GENESIS,
    ChainedEvent,
    Head,
    canonical_body,
    event_hash,
    verify_chain,
)
from shared.errors import BadInput, VerificationError


def chain(length: int) -> list[ChainedEvent]:
    events: list[ChainedEvent] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        at, body = f"2026-03-01T12:00:{seq:02}Z", {"n": seq, "why": "é"}
        digest = event_hash(previous, seq, at, "data.imported", body)
        events.append(ChainedEvent(seq, at, "data.imported", body, previous, digest))
        previous = digest
    return events


def test_the_hash_covers_exactly_the_documented_bytes() -> None:
    def text(value: str) -> bytes:
        return struct.pack(">I", len(value.encode())) + value.encode()

    expected = hashlib.sha256(
        text("touchstone/audit-event/v1")
        + bytes(32)
        + struct.pack(">Q", 1)
        + text("2026-03-01T12:00:00Z")
        + text("a.b")
        + text('{"a":[1,null],"z":"é"}')
    ).digest()
    body = {"z": "é", "a": [1, None]}
    assert event_hash(GENESIS, 1, "2026-03-01T12:00:00Z", "a.b", body) == expected


def test_an_unbroken_chain_is_proved() -> None:
    events = chain(5)
    assert verify_chain(events) == Head(5, events[-1].hash)
    assert verify_chain([]) == Head(0, GENESIS)


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-03-01T12:00:59Z"},
        {"kind": "data.removed"},
        {"body": {"n": 3, "why": "e"}},
        {"hash": bytes(32)},
        {"prev_hash": bytes(32)},
        {"seq": 7},
    ],
)
def test_a_changed_event_is_found(change: dict[str, object]) -> None:
    events = chain(5)
    events[2] = replace(events[2], **change)
    with pytest.raises(VerificationError):
        verify_chain(events)


def test_an_event_rehashed_after_a_change_no_longer_fits_its_successor() -> None:
    events = chain(5)
    forged = replace(events[2], body={"n": 99})
    digest = event_hash(forged.prev_hash, forged.seq, forged.at, forged.kind, forged.body)
    events[2] = replace(forged, hash=digest)
    with pytest.raises(VerificationError, match="event 4 does not follow"):
        verify_chain(events)


@pytest.mark.parametrize("at", [0, 2])
def test_a_missing_event_is_found(at: int) -> None:
    events = chain(5)
    del events[at]
    with pytest.raises(VerificationError, match=f"event {at + 1} is missing"):
        verify_chain(events)


def test_swapped_events_are_found() -> None:
    events = chain(5)
    events[1], events[2] = events[2], events[1]
    with pytest.raises(VerificationError):
        verify_chain(events)


def test_a_cut_off_end_is_found_by_a_noted_head_only() -> None:
    events = chain(5)
    noted = Head(5, events[-1].hash)
    assert verify_chain(events[:3]).seq == 3
    with pytest.raises(VerificationError, match="noted head"):
        verify_chain(events[:3], anchor=noted)
    assert verify_chain(events, anchor=Head(3, events[2].hash)).seq == 5


def test_a_rewritten_past_is_found_by_a_noted_head() -> None:
    noted = Head(3, chain(3)[-1].hash)
    other = [replace(event, body={"n": 0}) for event in chain(1)]
    digest = event_hash(GENESIS, 1, other[0].at, other[0].kind, other[0].body)
    other[0] = replace(other[0], hash=digest)
    with pytest.raises(VerificationError):
        verify_chain(other, anchor=noted)


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}])
def test_a_body_that_is_not_json_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        canonical_body(body)
