"""Terms, the run's guard, and the errors' catalogue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.errors import MalformedMessage, TouchstoneError, all_error_classes
from shared.secagg import (
    RunGuard,
    SessionTerms,
    default_colluders,
    default_n_min,
    default_threshold,
    errors,
    listed_members,
    member_setup,
    peek,
)
from shared.secagg.errors import RoundReleased, SlotClosed, TermsRefused
from tests.support.secagg import World, identity, make_terms, public

RUN = bytes(16)
MODEL = bytes(32)


@pytest.mark.parametrize(
    ("n", "m", "t", "n_min"),
    [(5, 1, 4, 4), (3, 0, 3, 3), (10, 3, 7, 7), (20, 6, 14, 14), (64, 21, 43, 43)],
)
def test_defaults_are_those_of_the_protocol(n: int, m: int, t: int, n_min: int) -> None:
    assert default_threshold(n, m) == t
    assert default_n_min(t, m) == n_min


@pytest.mark.parametrize("n", range(3, 65))
def test_default_thresholds_exclude_two_stories_for_every_size(n: int) -> None:
    m = default_colluders(n)
    t = default_threshold(n, m)
    assert n + m < 2 * t <= 2 * n
    assert default_colluders(5) == 1


def test_terms_survive_their_encoding_and_every_field_is_bound() -> None:
    terms = make_terms(6, colluders=1)
    assert SessionTerms.decode(terms.encode()) == terms
    changed = [
        replace(terms, manifest_hash=bytes(32)),
        replace(terms, run_id=bytes(16)),
        replace(terms, session_id=bytes(16)),
        replace(terms, ordinal=2),
        replace(terms, listed=terms.listed[:-1]),
        replace(terms, coordinator_key=public(99)),
        replace(terms, threshold=6, n_min=6),
        replace(terms, n_min=6),
        replace(terms, max_colluders=0),
        replace(terms, quantiser=replace(terms.quantiser, clip_l2=2.0)),
        replace(terms, quantiser=replace(terms.quantiser, bucketed=True)),
        replace(terms, slots=3),
    ]
    assert len({value.digest() for value in [terms, *changed]}) == 1 + len(changed)
    with pytest.raises(MalformedMessage):
        SessionTerms.decode(terms.encode() + b"\0")


def test_members_are_listed_from_the_own_roster_alone() -> None:
    roster = {1: public(1), 2: public(2), 7: public(7)}
    assert listed_members([7, 1], roster) == ((1, public(1)), (7, public(7)))
    for indices in ([1, 1], [0, 1], [1, 3]):
        with pytest.raises(TermsRefused):
            listed_members(indices, roster)


class TestGuard:
    def test_it_survives_its_encoding(self) -> None:
        guard = RunGuard(RUN)
        assert RunGuard.load(guard.dump()) == guard
        guard.join(3)
        guard.open_slot(2, 4, MODEL, 1)
        guard.release(4, MODEL)
        guard.open_slot(5, 6, MODEL, 1)
        again = RunGuard.load(guard.dump())
        assert again == guard
        assert (again.session_ordinal, again.slot, again.last_released_round) == (3, 5, 4)
        assert again.reopened_rounds == (6,)
        with pytest.raises(MalformedMessage):
            RunGuard.load(guard.dump()[:-1])

    def test_sessions_and_slots_only_go_up(self) -> None:
        guard = RunGuard(RUN)
        guard.join(2)
        for ordinal in (1, 2):
            with pytest.raises(SlotClosed):
                guard.join(ordinal)
        guard.open_slot(3, 1, MODEL, 2)
        for slot in (0, 3):
            with pytest.raises(SlotClosed):
                guard.open_slot(slot, 1, MODEL, 2)
        guard.join(5)
        guard.open_slot(0, 1, MODEL, 2)
        with pytest.raises(SlotClosed):
            guard.check_session(2)

    def test_a_released_round_is_closed_for_ever_and_those_below_it(self) -> None:
        guard = RunGuard(RUN)
        guard.join(1)
        guard.open_slot(0, 5, MODEL, 2)
        guard.open_slot(1, 5, MODEL, 2)
        guard.release(5, MODEL)
        guard.release(3, MODEL)
        for round_no in (1, 5):
            with pytest.raises(RoundReleased):
                guard.open_slot(2, round_no, bytes([1]) * 32, 2)
        assert guard.slot == 1

    def test_a_released_model_comes_back_a_limited_number_of_rounds(self) -> None:
        guard = RunGuard(RUN)
        guard.join(1)
        guard.open_slot(0, 1, MODEL, 2)
        guard.release(1, MODEL)
        guard.open_slot(1, 2, MODEL, 2)
        guard.open_slot(2, 2, MODEL, 2)
        guard.open_slot(3, 3, MODEL, 2)
        with pytest.raises(TermsRefused):
            guard.open_slot(4, 4, MODEL, 2)
        guard.open_slot(4, 4, bytes([1]) * 32, 2)


def test_every_error_has_its_own_code_and_carries_a_culprit() -> None:
    own = [cls for cls in all_error_classes() if cls.__module__ == errors.__name__]
    assert len(own) >= 17
    codes = [cls.code for cls in own]
    assert len(set(codes)) == len(codes)
    assert all(code.startswith("secagg") for code in codes)
    for cls in own:
        error = cls("text", culprit=3, pair=(1, 2), hint="do this")
        assert isinstance(error, TouchstoneError)
        assert (error.message, error.culprit, error.pair) == ("text", 3, (1, 2))
        assert error.hint == "do this"


def test_peek_tells_the_session_a_message_is_for() -> None:
    world = World(make_terms(5, ordinal=4))
    head = peek(world.coordinator.advertise_request())
    assert (head.kind, head.sender, head.ordinal) == ("advertise", 0, 4)
    assert (head.run_id, head.session_id) == (world.terms.run_id, world.terms.session_id)
    for garbage in (b"", b"\0\0\0\4abcd", world.coordinator.advertise_request()[:-1]):
        with pytest.raises(MalformedMessage):
            peek(garbage)


def test_secrets_do_not_show_in_what_may_be_logged() -> None:
    world = World(make_terms(5))
    assert world.setup().usable
    member = world.nodes[1].member
    secret = bytes(member._me.state.own[:32]).hex()
    assert secret not in repr(member)
    assert secret not in repr(member.guard)
    key = identity(1).private_bytes_raw()
    assert key not in member.dump()


def test_shares_dealt_to_others_are_overwritten_once_they_are_boxed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[member_setup._Dealing] = []

    class Watched(member_setup._Dealing):
        def __init__(self, *known: Any) -> None:
            super().__init__(*known)
            made.append(self)

    monkeypatch.setattr(member_setup, "_Dealing", Watched)
    world = World(make_terms(5))
    assert world.setup().usable
    assert len(made) == 5
    for index, dealing in enumerate(made, 1):
        blank = {v for v, row in dealing.rows.items() if not any(row)}
        assert blank == set(world.nodes) - {index}
        assert len(dealing.rows[1]) == world.terms.slots * 2 * member_setup.CELL
