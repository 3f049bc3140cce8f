"""An honest coordinator and four members through every fault at every place, crashes included.

Bounds: two rounds in four slots, t = n_min = 3, with nobody lost or with member 4 away for good
(the path with a certificate). An event is one message on its way, one write of a member, or one
write of the coordinator. A fault loses the message or delivers it twice, or kills the process
before the write; it then restarts from its disk. Every single event is a place for a fault; with
``TOUCHSTONE_DEEP`` every pair of events is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import pytest

from shared.secagg.errors import SlotsUsedUp, TooFew
from tests.support import secagg
from tests.support.secagg import Disk, Killed, Node, World, make_terms

TERMS = make_terms(4, colluders=1, threshold=3, n_min=3, slots=4)
ROUNDS = (1, 2)
ATTEMPTS = 8


@functools.cache
def prepared() -> tuple[dict[int, Disk], dict[str, bytes]]:
    """Set up once; every exploration starts from these disks."""
    world = World(TERMS)
    assert world.setup().usable
    return secagg.snapshot(world), dict(world.journal)


class Faults:
    """Counts events and strikes at the chosen ones."""

    def __init__(self, chosen: Iterable[int], away: int, *, twice: bool) -> None:
        self.chosen, self.away, self.twice = frozenset(chosen), away, twice
        self.events = 0

    def strikes(self) -> bool:
        self.events += 1
        return self.events - 1 in self.chosen

    def message(self, step: str, index: int, data: bytes) -> list[bytes]:
        if index == self.away:
            return []
        if self.strikes():
            return [data, data] if self.twice else []
        return [data]

    def write(self, name: str) -> None:
        if self.strikes():
            raise Killed(name)


class FaultyNode(Node):
    """A member whose process may die before any write."""

    faults: Faults

    def _write(self, name: str, data: bytes) -> None:
        self.faults.write(name)
        super()._write(name, data)


class FaultyWorld(World):
    """The coordinator's process may die before any write as well."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(TERMS, fault=faults.message)
        self.faults = faults
        disks, journal = prepared()
        for index, node in self.nodes.items():
            node.__class__, node.faults = FaultyNode, faults
            node.disk = replace(disks[index])
            node.restart()
        self.journal = dict(journal)
        self.restart_desk()

    def save(self, *names: str) -> None:
        for name in names:
            self.faults.write(name)
            super().save(name)

    def attempt(self, round_no: int) -> secagg.RoundSum:
        """Go on with the open round, or start it in the next slot."""
        desk = self.coordinator
        if desk.round_open and not desk.open_survivors:
            desk.abandon_slot()
            self.save("round")
        if not self.coordinator.round_open:
            self.collect(round_no)
        return self.unmask()

    def finished(self, round_no: int) -> list[secagg.RoundSum]:
        """Try until a sum is on disk; return every sum that was computed on the way."""
        sums: list[secagg.RoundSum] = []
        for _ in range(ATTEMPTS):
            try:
                sums.append(self.attempt(round_no))
                self.save("round")
            except Killed:
                self.restart_desk()
            except TooFew:
                continue
            except SlotsUsedUp:
                break
            else:
                return sums
        return sums


def explore(chosen: Iterable[int], away: int, *, twice: bool = False) -> tuple[int, int]:
    """Run both rounds with faults at ``chosen``; return (events, rounds that were summed)."""
    faults = Faults(chosen, away, twice=twice)
    world = FaultyWorld(faults)
    summed = 0
    for round_no in ROUNDS:
        sums = world.finished(round_no)
        for result in sums:
            world.assert_exact(result)
        # A sum computed again after a crash is the same sum over the same members.
        assert len({(s.slot, s.survivors, s.sum_sha256) for s in sums}) <= 1
        summed += bool(sums)
    stories: dict[int, set[tuple[int, int, bytes]]] = {}
    for node in world.nodes.values():
        for released, *story in node.released:
            stories.setdefault(released, set()).add(tuple(story))
    assert all(len(found) == 1 for found in stories.values()), stories
    return faults.events, summed


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("away", [0, 4])
def test_any_single_fault_at_any_place_costs_at_most_a_slot(away: int, twice: bool) -> None:
    events, summed = explore((), away)
    assert summed == len(ROUNDS)
    assert events > 60
    for place in range(events):
        _, summed = explore((place,), away, twice=twice)
        # Three members are enough. Where the fault leaves fewer, the next slot is taken.
        assert summed == len(ROUNDS), place


@pytest.mark.slow
@pytest.mark.skipif("TOUCHSTONE_DEEP" not in os.environ, reason="minutes; set TOUCHSTONE_DEEP=1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("away", [0, 4])
def test_any_two_faults_never_give_a_second_story_or_a_wrong_sum(away: int) -> None:
    events, _ = explore((), away)
    for places in combinations(range(events), 2):
        explore(places, away)
