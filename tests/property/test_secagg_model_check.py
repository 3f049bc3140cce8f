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

from shared.secagg import MemberLimits, RunGuard, SessionTerms, member_round
from shared.secagg import member as member_module
from tests.support.secagg_adversary import Outcome, Promise, explore, pruned
from tests.support.secagg_model import MEMBERS, THRESHOLD, LocalExplorer, Menu, View

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
    guard_first: bool = True,
    bitmaps: Sequence[int] = range(32),
) -> Outcome:
    menu = Menu(views, colluders, threshold, bitmaps)
    honest = [index for index in MEMBERS if index not in colluders]
    graphs = [LocalExplorer(menu, index, guard_first=guard_first).run() for index in honest]
    outcome = explore([pruned(graph) for graph in graphs], Promise(frozenset(colluders), threshold))
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
    # The exploration got as far as opened sums on both paths: all four, or one of them lost.
    assert outcome.opened >= 4
    assert outcome.states > 250


@pytest.mark.parametrize("colluders", [(1,), ()])
def test_the_colluder_may_be_the_lowest_member_or_nobody(colluders: tuple[int, ...]) -> None:
    outcome = check(SCENARIOS["one round"], colluders)
    assert outcome.violation == ""
    assert outcome.opened >= 4


@pytest.mark.slow
@deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("colluders", [(4,), (1,)])
@pytest.mark.parametrize("name", [*SCENARIOS, *DEEP])
def test_deeper(name: str, colluders: tuple[int, ...]) -> None:
    if name in DEEP and not colluders:
        pytest.skip("beyond the bound of states: four honest members and three requests")
    outcome = check((SCENARIOS | DEEP)[name], colluders)
    show(f"{name}, colluders {colluders}", outcome)
    assert outcome.violation == ""


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
