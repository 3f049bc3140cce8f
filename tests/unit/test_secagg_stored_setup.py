"""A coordinator's stored set-up that is not what was written: damaged, cut, put together anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage, VerificationError
from shared.secagg import SessionTerms
from shared.secagg.coordinator_setup import SetupBook
from shared.secagg.terms import DOMAIN
from tests.support.decoders import recorded
from tests.support.secagg import World, deliver, make_terms

Table = dict[int, bytes]
Parts = tuple[bytes, list[Table]]


def opened(data: bytes) -> Parts:
    """Return the terms and the tables of advertisements, shares and confirmations."""
    reader = Reader(data, DOMAIN + "setup")
    terms = reader.blob()
    tables = [{reader.u32(): reader.blob() for _ in range(reader.u32())} for _ in range(3)]
    reader.end()
    return terms, tables


def closed(parts: Parts) -> bytes:
    writer = Writer(DOMAIN + "setup").blob(parts[0])
    for table in parts[1]:
        writer.u32(len(table))
        for index, message in table.items():
            writer.u32(index).blob(message)
    return writer.done()


def without(table: int, *members: int) -> Callable[[Parts], Parts]:
    def change(parts: Parts) -> Parts:
        kept = [
            {i: m for i, m in entries.items() if place != table or (members and i not in members)}
            for place, entries in enumerate(parts[1])
        ]
        return parts[0], kept

    return change


def reversed_tables(parts: Parts) -> Parts:
    return parts[0], [dict(reversed(entries.items())) for entries in parts[1]]


def unsafe_terms(parts: Parts) -> Parts:
    terms = SessionTerms.decode(parts[0])
    return replace(terms, threshold=1, n_min=1).encode(), parts[1]


def a_stranger_confirms(parts: Parts) -> Parts:
    advertised, shared, confirmed = parts[1]
    return parts[0], [advertised, shared, {**confirmed, 9: confirmed[6]}]


@pytest.mark.parametrize(
    "change",
    [
        without(0),
        without(1),
        without(2),
        without(0, 1, 2, 3),
        without(1, 1, 2, 3),
        without(2, 1, 2, 3),
        without(1, 1),
        reversed_tables,
        unsafe_terms,
        a_stranger_confirms,
    ],
)
def test_a_set_up_that_was_never_written_is_refused(change: Callable[[Parts], Parts]) -> None:
    stored = recorded()["setup"][0]
    assert closed(opened(stored)) == stored
    with pytest.raises(VerificationError):
        SetupBook.decode(closed(change(opened(stored))))


def test_a_set_up_that_ended_in_complaints_is_refused() -> None:
    """Its writer refuses it as well, so the bytes are put together here."""

    def broken(step: str, index: int, data: bytes) -> list[bytes]:
        seen.setdefault(step, {})[index] = data
        return deliver(step, index, data)

    seen: dict[str, Table] = {}
    world = World(make_terms(6, threshold=4, slots=1), fault=broken)
    assert world.setup().usable
    good = opened(world.coordinator.dump_setup())
    member = world.nodes[2]
    complaint = member.member._me.seal(  # type: ignore[union-attr]
        "complaint", Writer().u32s([5]).done()
    )
    good[1][2][2] = complaint
    with pytest.raises(MalformedMessage, match="complaints"):
        SetupBook.decode(closed(good))
