"""The coordinator's accumulator: one memory for many rounds, and a checksum for what is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secagg import keys
from shared.secagg.errors import OutOfOrder, TooFew
from shared.secagg.tail import METRIC_WORDS
from tests.support.secagg import World, losing, make_terms


def ready(slots: int = 4) -> World:
    world = World(make_terms(5, slots=slots))
    assert world.setup().usable
    return world


class TestTakenBack:
    def test_rounds_share_one_memory_and_every_sum_is_exact(self) -> None:
        world = ready()
        first = world.round(1)
        world.assert_exact(first)
        world.coordinator.take_back(first)
        assert not first.vector.any()
        for number in (2, 3):
            again = world.round(number)
            assert np.shares_memory(again.vector, first.vector)
            world.assert_exact(again)
            world.coordinator.take_back(again)

    def test_a_round_that_loses_members_is_exact_in_memory_used_before(self) -> None:
        world = ready()
        world.coordinator.take_back(world.round(1))
        world.fault = losing({5: "masked"})
        result = world.round(2)
        assert 5 not in result.survivors
        world.assert_exact(result)

    def test_nothing_of_the_last_sum_is_left_when_a_round_opens(self) -> None:
        world = ready()
        world.coordinator.take_back(world.round(1))
        world.fault = losing(dict.fromkeys(world.terms.indices, "masked"))
        world.collect(2)
        assert not any(world.coordinator.accumulator())

    def test_a_sum_that_is_kept_stays_as_it_is(self) -> None:
        world = ready()
        first = world.round(1)
        kept = first.vector.copy()
        second = world.round(2)
        assert not np.shares_memory(first.vector, second.vector)
        assert np.array_equal(first.vector, kept)

    def test_only_the_last_sum_comes_back_and_only_once(self) -> None:
        world = ready()
        first = world.round(1)
        second = world.round(2)
        with pytest.raises(OutOfOrder):
            world.coordinator.take_back(first)
        assert first.vector.any()
        world.coordinator.take_back(second)
        with pytest.raises(OutOfOrder):
            world.coordinator.take_back(second)

    def test_a_sum_does_not_come_back_into_an_open_round(self) -> None:
        world = ready()
        first = world.round(1)
        world.collect(2)
        masked = bytes(world.coordinator.accumulator())
        with pytest.raises(OutOfOrder):
            world.coordinator.take_back(first)
        assert bytes(world.coordinator.accumulator()) == masked

    def test_an_abandoned_round_leaves_nothing_in_the_next_one(self) -> None:
        world = ready()
        world.coordinator.take_back(world.round(1))
        world.fault = losing(dict.fromkeys((3, 4, 5), "masked"))
        world.collect(2)
        with pytest.raises(TooFew):
            world.coordinator.close_masked()
        world.coordinator.abandon_slot()
        world.fault = losing({})
        world.assert_exact(world.round(2))

    @pytest.mark.parametrize(("more", "shared"), [(-1, True), (METRIC_WORDS, True), (1000, False)])
    def test_a_round_of_another_length_gets_as_many_zeros(self, more: int, shared: bool) -> None:
        world = ready()
        first = world.round(1)
        world.coordinator.take_back(first)
        words = first.vector.size + more
        world.coordinator.open_round(2, world.coordinator.confirmed, bytes(32), b"", words)
        opened = np.frombuffer(world.coordinator.accumulator(), dtype="<u8")
        assert opened.size == words
        assert not opened.any()
        assert np.shares_memory(opened, first.vector) == shared

    def test_a_round_finished_after_a_restart_lends_its_memory_too(self) -> None:
        world = ready()
        world.collect(1)
        world.coordinator.close_masked()
        world.save("accumulator", "round")
        world.restart_desk()
        result = world.unmask()
        world.coordinator.take_back(result)
        again = world.round(2)
        assert np.shares_memory(again.vector, result.vector)
        world.assert_exact(again)


class TestChecksum:
    @given(data=st.binary(min_size=1, max_size=100), where=st.integers(0), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_found(self, data: bytes, where: int, bit: int) -> None:
        made = keys.checksum(data)
        keys.check_checksum(data, made)
        changed = bytearray(data)
        changed[where % len(data)] ^= 1 << bit
        with pytest.raises(ValueError, match="checksum"):
            keys.check_checksum(bytes(changed), made)

    @given(data=st.binary(max_size=100), more=st.binary(min_size=1, max_size=20))
    def test_a_longer_or_shorter_text_is_found(self, data: bytes, more: bytes) -> None:
        for one, other in ((data, data + more), (data + more, data)):
            with pytest.raises(ValueError, match="checksum"):
                keys.check_checksum(other, keys.checksum(one))

    @pytest.mark.parametrize("length", [0, 1, keys.KEY_BYTES, keys.CHECKSUM_BYTES - 1])
    def test_half_a_checksum_fits_nothing(self, length: int) -> None:
        with pytest.raises(ValueError):
            keys.check_checksum(b"data", keys.checksum(b"data")[:length])

    def test_every_checksum_has_a_key_of_its_own(self) -> None:
        assert keys.checksum(b"data") != keys.checksum(b"data")
