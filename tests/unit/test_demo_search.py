"""The byte search of the demonstration finds exactly what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.demo import search
from simulations.demo.search import SHORTEST, Needles

needles = st.lists(st.binary(min_size=SHORTEST, max_size=16), max_size=8)


@given(needles, needles, st.binary(max_size=40))
def test_finds_what_a_plain_search_finds(hidden: list[bytes], absent: list[bytes], gap: bytes):
    data = gap.join(hidden)
    wanted = set(hidden + absent)
    assert Needles(wanted).found_in(data) == {needle for needle in wanted if needle in data}


def test_nothing_is_lost_between_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CHUNK", 16)
    needle = b"a title of a listing"
    for before in range(40):
        assert Needles([needle]).found_in(b"\0" * before + needle + b"\0") == {needle}


def test_needles_too_short_to_say_anything_are_left_out() -> None:
    sought = Needles([b"1234567", b"12345678"])
    assert len(sought) == 1
    assert sought.found_in(b"") == set()
    assert sought.found_in(b"123") == set()
