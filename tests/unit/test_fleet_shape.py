"""A message is refused before it is decoded where decoding would multiply it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage

from coordinator.fleet.allowance import reply_limit
from shared.errors import MalformedMessage
from shared.fleet.exchange import ADVERTISE, CONSENT, ENDED, MASKED, RELEASE, SHARE, UNMASK
from shared.fleet.messages import decode, encode, new_message, with_id
from shared.fleet.shape import check_shape
from shared.limits import (
    MAX_GROUP,
    MAX_MESSAGE_FIELDS,
    MAX_MESSAGE_LIST_BYTES,
    MAX_MESSAGE_TEXT_BYTES,
    MAX_MODEL_VALUES,
    MAX_SECAGG_SLOTS,
    MAX_SHORT_REPLY_BYTES,
)
from shared.secagg.tail import Layout
from tests.support.fleet import content


def encoded(records: RecordDict) -> bytes:
    return encode(with_id(new_message(records, 1, "train", run_id=1), "ab" * 16))


def numbers(count: int) -> RecordDict:
    return RecordDict({"touchstone": ConfigRecord({"payload": [1] * count})})


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (numbers(MAX_MESSAGE_LIST_BYTES + 1), "list of numbers"),
        (numbers(1 << 20), "list of numbers"),
        (RecordDict({"m": MetricRecord({"n": [1.0] * 9})}), "list of numbers"),
        (RecordDict({"m": MetricRecord({str(n): n for n in range(999)})}), "too many fields"),
        (RecordDict({"c": ConfigRecord({"t": "x" * (MAX_MESSAGE_TEXT_BYTES + 1)})}), "text"),
        (RecordDict({"c": ConfigRecord({"t": [b""] * MAX_MESSAGE_FIELDS})}), "too many fields"),
    ],
)
def test_what_would_swell_is_refused(records: RecordDict, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        decode(encoded(records))


@pytest.mark.parametrize(
    "records",
    [
        numbers(MAX_MESSAGE_LIST_BYTES),
        content(100_000, "x" * 2000),
        RecordDict({"c": ConfigRecord({"payload": bytes(1 << 20)})}),
    ],
)
def test_what_stays_as_large_as_it_is_passes(records: RecordDict) -> None:
    data = encoded(records)
    assert encode(decode(data)) == data


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xff" * 11, b"\x12\x05ab", b"\x0b", b"\x0d\x01", b"\x12\x03\x0a\x05a"],
    ids=["cut tag", "endless", "cut field", "group", "cut number", "longer than its message"],
)
def test_bytes_that_are_no_fields_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        check_shape(data, ProtoMessage.DESCRIPTOR)


@pytest.mark.parametrize("length", [1, 7, 2])
def test_unknown_fields_are_left_to_protobuf(length: int) -> None:
    field: Callable[[int], bytes] = lambda size: b"\xfa\x3f" + bytes([size]) + bytes(size)  # noqa: E731
    data = encoded(content()) + field(length)
    assert decode(data).has_content()


@pytest.mark.parametrize("params", [1, 1000, MAX_MODEL_VALUES])
def test_every_masked_vector_may_come_in(params: int) -> None:
    """The model that came is longer than the answer, but for a tail of a few words."""
    answer = 8 * Layout(params, evaluates=True).words
    assert answer + 4096 < reply_limit(MASKED, 4 * params)


def test_set_up_and_short_answers_have_room() -> None:
    shares = MAX_GROUP * MAX_SECAGG_SLOTS * 96
    assert all(reply_limit(kind, 1) > 4 * shares for kind in (ADVERTISE, SHARE))
    reveal = MAX_GROUP * 64
    assert all(
        reply_limit(kind, 1) == MAX_SHORT_REPLY_BYTES > 8 * reveal
        for kind in (CONSENT, UNMASK, RELEASE, ENDED)
    )
