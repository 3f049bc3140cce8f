"""Every state of a small alliance under a coordinator that lies: nothing opens that must not.

Bounds: four members, t = n_min = 3, of whom one (the first or the last) or none sides with the
coordinator; two slots in the first session and one in a second; up to two requests to mask a
scenario (three in the slow ones). In every state a member is asked everything: each 'masked'
request of the scenario, each of the 32 bitmaps over four members and one bit too many, under each
T2, unsigned and with certificates of 2, 3 and 4 signers, of another set, of another round. A member
may die between any two writes, any message may be lost, repeated or reordered.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from unittest import mock

import pytest

from shared.secagg import Member, MemberLimits, RunGuard, SessionTerms, member_round
from shared.secagg import member as member_module
from shared.secagg.errors import TermsRefused
from shared.secagg.member_state import MemberState
from tests.support.secagg_adversary import Outcome, Promise, explore, pruned
from tests.support.secagg_model import MEMBERS, THRESHOLD, LocalExplorer, Menu, View
from tests.support.secagg_rules import broken_rules

FIRST = View(session=1, slot=0, round=1)
RETRY = View(session=1, slot=1, round=1)
NEXT = View(session=1, slot=1, round=2, model="B")
OTHER_MODEL = View(session=1, slot=0, round=1, model="B")
SMALLER = View(session=1, slot=0, round=1, participants=(1, 2, 3))
NEW_SESSION = View(session=2, slot=0, round=1)

SCENARIOS = {
    "one round": (FIRST,),
    "retry in the next slot": (FIRST, RETRY),
    "two models in one slot": (FIRST, OTHER_MODEL),
    "two sets in one slot": (FIRST, SMALLER),
    "new session": (FIRST, NEW_SESSION),
}
DEEP = {
    "next round": (FIRST, NEXT),
    "two views and a retry": (FIRST, OTHER_MODEL, RETRY),
    "retry and new session": (FIRST, RETRY, NEW_SESSION),
}
FEW = (0b1111, 0b1011)
"""Bitmaps that are enough to go wrong over: nobody lost, and member 3 lost."""

deep = pytest.mark.skipif(
    "TOUCHSTONE_DEEP" not in os.environ, reason="minutes; set TOUCHSTONE_DEEP=1"
)


def check(
    views: tuple[View, ...],
    colluders: tuple[int, ...],
    *,
    threshold: int = THRESHOLD,
    n_min: int = THRESHOLD,
    guard_first: bool = True,
    bitmaps: Sequence[int] = range(32),
) -> Outcome:
    menu = Menu(views, colluders, threshold, bitmaps, n_min)
    honest = [index for index in MEMBERS if index not in colluders]
    graphs = [LocalExplorer(menu, index, guard_first=guard_first).run() for index in honest]
    promise = Promise(frozenset(colluders), threshold, n_min)
    outcome = explore([pruned(graph) for graph in graphs], promise)
    outcome.broken = set().union(*(broken_rules(graph, n_min) for graph in graphs))
    outcome.requests = sum(graph.requests for graph in graphs)
    outcome.local = sum(len(graph.told) for graph in graphs)
    return outcome


def show(name: str, outcome: Outcome) -> None:
    print(
        f"{name}: {outcome.requests} requests to real members in {outcome.local} states, "
        f"{outcome.states} states of the alliance, {outcome.steps} steps, "
        f"{outcome.opened} sums that may be opened, {outcome.violation or 'no violation'}"
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_reachable_state_opens_more_than_one_large_sum_a_round(name: str) -> None:
    outcome = check(SCENARIOS[name], (4,))
    show(name, outcome)
    assert outcome.violation == ""
    assert outcome.broken == set()
    # The exploration got as far as opened sums on both paths: all four, or one of them lost.
    assert outcome.opened >= 4
    assert outcome.states > 250


@pytest.mark.parametrize("colluders", [(1,), ()])
def test_the_colluder_may_be_the_lowest_member_or_nobody(colluders: tuple[int, ...]) -> None:
    outcome = check(SCENARIOS["one round"], colluders)
    assert outcome.violation == ""
    assert outcome.broken == set()
    assert outcome.opened >= 4


@pytest.mark.parametrize("views", [(FIRST, OTHER_MODEL), (FIRST, SMALLER)])
def test_with_the_default_cohort_of_four_nobody_may_be_lost(views: tuple[View, ...]) -> None:
    """n_min = 4 is above t = 3: a set that could be opened may still be too small to be."""
    outcome = check(views, (4,), n_min=4)
    assert outcome.violation == ""
    assert outcome.broken == set()
    # All three honest members together, in the one slot that there is, whichever view they masked.
    assert outcome.opened == 1


@pytest.mark.slow
@deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("colluders", [(4,), (1,)])
@pytest.mark.parametrize("name", [*SCENARIOS, *DEEP])
def test_deeper(name: str, colluders: tuple[int, ...]) -> None:
    outcome = check((SCENARIOS | DEEP)[name], colluders)
    show(f"{name}, colluders {colluders}", outcome)
    assert outcome.violation == ""
    assert outcome.broken == set()


class TestTheCheckCanFail:
    """Each rule that is taken away is missed: the exploration finds what then goes wrong."""

    def test_without_the_guard_s_round_a_retry_releases_twice(self) -> None:
        with mock.patch.object(RunGuard, "check_round", return_value=None):
            outcome = check((FIRST, RETRY), (4,), bitmaps=FEW)
        assert outcome.violation == "a member released one round twice"

    def test_a_guard_written_after_the_answer_releases_twice(self) -> None:
        outcome = check((FIRST, RETRY), (4,), guard_first=False, bitmaps=FEW)
        assert outcome.violation == "a member released one round twice"

    def test_a_guard_that_does_not_outlive_its_session_releases_twice(self) -> None:
        join = RunGuard.join

        def forgetful(self: RunGuard, ordinal: int) -> None:
            join(self, ordinal)
            self.last_released_round = 0

        with mock.patch.object(RunGuard, "join", forgetful):
            outcome = check((FIRST, NEW_SESSION), (4,), bitmaps=FEW)
        assert outcome.violation == "a member released one round twice"

    def test_without_the_fixed_bitmap_and_answers_a_round_opens_over_two_sets(self) -> None:
        checked = member_round._check_survivors

        def any_set(me, slot, claim):  # type: ignore[no-untyped-def]
            return checked(me, dataclasses.replace(slot, bitmap=b""), claim)

        with (
            mock.patch.object(member_round, "_check_survivors", any_set),
            mock.patch.object(member_module, "_stored", return_value=None),
        ):
            outcome = check((FIRST,), (4,), bitmaps=FEW)
        assert "opened" in outcome.violation

    def test_with_an_unsafe_threshold_two_stories_open_a_round(self) -> None:
        with (
            mock.patch.object(SessionTerms, "validate", return_value=None),
            mock.patch.object(MemberLimits, "check_terms", return_value=None),
        ):
            outcome = check((FIRST,), (4,), threshold=2)
        assert "opened" in outcome.violation

    def test_a_slot_that_is_masked_again_under_the_same_view(self) -> None:
        """Both requests are the same bytes; only the vectors differ."""
        mask, open_round = member_round.mask, Member.open_round

        def keeps_masks(*args):  # type: ignore[no-untyped-def]
            with mock.patch.object(MemberState, "wipe_masks", return_value=None):
                return mask(*args)

        def forgets(self, request, model):  # type: ignore[no-untyped-def]
            opened = open_round(self, request, model)
            self._me.state.slot.header = b""
            return dataclasses.replace(opened, already_answered=False)

        with (
            mock.patch.object(member_round, "mask", keeps_masks),
            mock.patch.object(Member, "open_round", forgets),
        ):
            outcome = check((FIRST,), (4,), bitmaps=FEW)
        assert outcome.violation == "a member masked twice in one slot"

    def test_without_the_certificate_a_share_of_rho_is_given_for_nothing(self) -> None:
        with mock.patch.object(member_round, "check_certificate", return_value=None):
            outcome = check((FIRST,), (4,), bitmaps=FEW)
        assert outcome.broken == {"a share of rho was given without a certificate"}

    def test_a_certificate_of_too_few_signatures(self) -> None:
        checked = member_round.check_certificate

        def lower(terms, request, survivors):  # type: ignore[no-untyped-def]
            checked(dataclasses.replace(terms, threshold=2), request, survivors)

        with mock.patch.object(member_round, "check_certificate", lower):
            outcome = check((FIRST,), (4,), bitmaps=FEW)
        assert outcome.broken == {"a share of rho was given without a certificate"}

    def test_without_the_floor_a_member_stands_by_a_small_set(self) -> None:
        with mock.patch.object(MemberLimits, "check_set", return_value=None):
            outcome = check((FIRST,), (4,), bitmaps=(0b1111, 0b0011))
        assert outcome.broken == {"a member stood by a survivor set that is too small"}

    def test_with_a_floor_of_t_alone_the_cohort_of_four_is_missed(self) -> None:
        def only_threshold(self, terms, members, index, where):  # type: ignore[no-untyped-def]
            if len(set(members)) < terms.threshold:
                raise TermsRefused(where)

        with mock.patch.object(MemberLimits, "check_set", only_threshold):
            outcome = check((FIRST,), (4,), bitmaps=FEW, n_min=4)
        assert "a member gave shares of b of too few members" in outcome.broken
        assert "opened" in outcome.violation

    def test_without_its_own_bit_a_member_gives_away_its_own_rho(self) -> None:
        with mock.patch.object(member_round, "_check_survivors", _without("own bit")):
            outcome = check((FIRST,), (4,), bitmaps=FEW)
        assert outcome.broken == {
            "a member stood by a survivor set without itself",
            "a member gave a share of its own rho",
        }

    def test_without_its_view_a_member_answers_for_another_one(self) -> None:
        with mock.patch.object(member_round, "_check_survivors", _without("view")):
            outcome = check((FIRST, OTHER_MODEL), (4,), bitmaps=FEW)
        assert "a member answered under a view that it had not masked in" in outcome.broken

    def test_without_the_check_of_the_session_an_older_one_goes_on(self) -> None:
        with (
            mock.patch.object(RunGuard, "check_session", return_value=None),
            mock.patch.object(Member, "closed", False),
        ):
            outcome = check((FIRST, NEW_SESSION), (4,), bitmaps=FEW)
        assert outcome.broken == {"a member spoke in a session after it had joined a newer one"}


def _without(rule: str):  # type: ignore[no-untyped-def]
    """Return the check of a survivor set with one rule taken out."""
    checked = member_round._check_survivors

    def check_survivors(me, slot, claim):  # type: ignore[no-untyped-def]
        if rule == "view":
            claim = dataclasses.replace(claim, t2=slot.t2)
        elif rule == "own bit" and slot.header and slot.bitmap in (b"", claim.bitmap):
            survivors = claim.survivors(slot.participants)
            if claim.t2 == slot.t2 and me.index not in survivors:
                return survivors
        return checked(me, slot, claim)

    return check_survivors
