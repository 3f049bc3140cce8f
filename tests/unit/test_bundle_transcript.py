"""The transcript's chain: nothing can be changed, left out, repeated or told differently."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import MalformedMessage, VerificationError
from shared.trust.round_record import NO_SUM, Outcome, RoundRecord
from shared.trust.transcript import Transcript, TranscriptError, UnverifiedTranscript, Witness
from tests.support.release import KEY, PUBLIC, a_record, a_transcript

RUN = {"run_id": b"u" * 16, "manifest_hash": b"m" * 32}


def verify(data: bytes, key: bytes = PUBLIC, **changes: bytes) -> Transcript:
    return UnverifiedTranscript(data).verify(key, **{**RUN, **changes})


def witness(number: int = 2, index: int = 3) -> Witness:
    record = a_record(number)
    return Witness(
        index, number, record.slot, record.t2, record.bitmap(), dict(record.vectors)[index]
    )


def test_round_trip():
    transcript = a_transcript()
    assert verify(transcript.sign(KEY), head=transcript.head) == transcript
    assert transcript.rounds_summed() == 3


def test_an_empty_transcript_verifies_for_its_own_run_only():
    data = Transcript.start(**RUN).sign(KEY)
    assert verify(data).records == ()
    with pytest.raises(TranscriptError):
        verify(data, run_id=b"v" * 16)
    with pytest.raises(TranscriptError):
        verify(data, manifest_hash=b"n" * 32)


def test_every_flipped_byte_is_refused():
    data = a_transcript(2).sign(KEY)
    accepted = []
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1 << (at % 8)
        try:
            verify(bytes(altered))
        except VerificationError:
            continue
        accepted.append(at)
    assert accepted == []


def test_another_signer_or_head_is_refused():
    other = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    with pytest.raises(TranscriptError):
        verify(a_transcript().sign(other))
    with pytest.raises(TranscriptError):
        verify(a_transcript(3).sign(KEY), head=a_transcript(2).head)


def test_a_signed_but_shortened_transcript_does_not_lead_to_the_release():
    with pytest.raises(TranscriptError):
        verify(a_transcript(2).sign(KEY), head=a_transcript(3).head)


@pytest.mark.parametrize("number", [1, 2])
def test_a_round_is_never_repeated(number):
    with pytest.raises(TranscriptError):
        a_transcript(2).append(a_record(number, model_sha256=bytes([13]) * 32))


def test_a_round_starts_from_the_model_the_last_one_left():
    with pytest.raises(TranscriptError):
        a_transcript(2).append(a_record(3, model_sha256=b"x" * 32))


def test_a_burnt_round_leaves_the_model_and_counts_for_nothing():
    model = bytes([13]) * 32
    burnt = a_record(
        3,
        outcome=Outcome.BURNT,
        sum_sha256=NO_SUM,
        model_sha256=model,
        next_model_sha256=model,
    )
    transcript = a_transcript(2).append(burnt).append(a_record(4, model_sha256=model))
    assert verify(transcript.sign(KEY)) == transcript
    assert transcript.rounds_summed() == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"participants": (1, 2, 3, 5, 4)},
        {"participants": (1, 1, 2, 3, 5)},
        {"participants": (0, 1, 2, 3, 5)},
        {"participants": (1, 2, 3, 4)},
        {"survivors": (1, 2, 3)},
        {"certificate": ((4, b"s" * 64),)},
        {"certificate": ((2, b"s" * 64), (1, b"s" * 64))},
        {"outcome": Outcome.BURNT},
        {"sum_sha256": NO_SUM},
        {"outcome": Outcome.BURNT, "sum_sha256": NO_SUM},
        {"round": 0},
        {"attempt": 0},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes):
    with pytest.raises(MalformedMessage):
        Transcript.start(**RUN).append(replace(a_record(1), **changes))


def test_bits_beyond_the_participants_are_refused():
    data = bytearray(a_record(1).encode())
    at = data.index(b"\x00\x00\x00\x01" + a_record(1).bitmap()) + 4
    data[at] |= 0x80
    with pytest.raises(MalformedMessage, match="beyond"):
        RoundRecord.decode(bytes(data))


def test_the_bitmap_is_low_bit_first():
    assert a_record(1).bitmap() == bytes([0b10111])


def test_a_witness_that_agrees_is_silent():
    a_transcript().check_witnesses([witness(1), witness(2), witness(3, index=5)])


@pytest.mark.parametrize(
    "changes",
    [
        {"t2": b"x" * 32},
        {"slot": 9},
        {"bitmap": bytes([0b11111])},
        {"vector_sha256": b"x" * 32},
        {"index": 4},
        {"round": 7},
    ],
)
def test_a_witness_that_was_told_something_else_is_heard(changes):
    with pytest.raises(TranscriptError):
        a_transcript().check_witness(replace(witness(), **changes))
