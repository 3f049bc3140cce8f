"""A message is either delivered as it was sent, or refused."""

from __future__ import annotations

import pytest
from alliance.v1 import fleet_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MalformedMessage, TouchstoneError
from shared.fleet.chunks import Assembly, opening, pieces, pieces_of
from shared.fleet.errors import DigestMismatch, MessageTooLarge
from shared.limits import CHUNK_BYTES, MAX_MESSAGE_BYTES

DATA = st.binary(min_size=1, max_size=200)
SIZE = st.integers(1, 60)


def assemble(start: pb.MessageStart, chunks: list[pb.Chunk]) -> bytes:
    assembly = Assembly(start)
    for chunk in chunks:
        assembly.add(chunk)
    return assembly.finish()


@given(DATA, SIZE)
def test_any_message_survives_any_cutting(data: bytes, size: int) -> None:
    assert assemble(opening(data, kind="x"), list(pieces(data, size))) == data


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=8), SIZE)
def test_parts_are_cut_as_if_they_were_one(parts: list[bytes], size: int) -> None:
    assert list(pieces_of(parts, size)) == list(pieces(b"".join(parts), size))


@given(DATA, SIZE, st.data())
def test_any_flipped_bit_is_refused(data: bytes, size: int, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DigestMismatch):
        assemble(opening(data, kind="x"), list(pieces(bytes(damaged), size)))


@given(st.binary(min_size=2, max_size=200), st.integers(1, 20), st.data())
def test_a_lost_repeated_or_swapped_chunk_is_refused(
    data: bytes, size: int, draw: st.DataObject
) -> None:
    chunks = list(pieces(data, min(size, len(data) - 1)))
    at = draw.draw(st.integers(0, len(chunks) - 2))
    wrong = draw.draw(
        st.sampled_from(
            [
                chunks[:at] + chunks[at + 1 :],
                chunks[: at + 1] + chunks[at:],
                [*chunks[:at], chunks[at + 1], chunks[at], *chunks[at + 2 :]],
                chunks[:-1],
            ]
        )
    )
    with pytest.raises(MalformedMessage):
        assemble(opening(data, kind="x"), wrong)


@given(
    st.integers(0, 2**64 - 1), st.binary(max_size=40), st.lists(st.binary(max_size=9), max_size=4)
)
def test_no_announcement_crashes_or_passes_unchecked(
    total: int, digest: bytes, parts: list[bytes]
) -> None:
    start = pb.MessageStart(total_bytes=total, sha256=digest)
    offset, chunks = 0, []
    for part in parts:
        chunks.append(pb.Chunk(offset=offset, data=part))
        offset += len(part)
    with pytest.raises(TouchstoneError):
        assemble(start, chunks)


def test_limits_hold_before_any_memory_is_taken() -> None:
    with pytest.raises(MessageTooLarge):
        Assembly(pb.MessageStart(total_bytes=MAX_MESSAGE_BYTES + 1, sha256=bytes(32)))
    with pytest.raises(MalformedMessage):
        Assembly(pb.MessageStart(total_bytes=0, sha256=bytes(32)))
    with pytest.raises(MalformedMessage):
        Assembly(pb.MessageStart(total_bytes=1, sha256=bytes(32), reply_to="x" * 65))
    assembly = Assembly(pb.MessageStart(total_bytes=MAX_MESSAGE_BYTES, sha256=bytes(32)))
    with pytest.raises(MalformedMessage):
        assembly.add(pb.Chunk(offset=0, data=bytes(CHUNK_BYTES + 1)))
