"""What must hold for every loss, flip, repetition and crash, not only for those we thought of."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import TouchstoneError, VerificationError
from shared.secagg import SessionTerms
from shared.secagg.errors import SecaggError, SlotsUsedUp, TooFew
from tests.support.secagg import (
    Disk,
    Killed,
    QueuedWorld,
    World,
    losing,
    make_terms,
    restore,
    snapshot,
)

CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
STEPS = ("advertise", "share", "confirm", "masked", "unmask", "release", "never")
MESSAGES = tuple(f"{step}{end}" for step in STEPS[:-1] for end in ("", "-reply"))


Losses = tuple[tuple[int, str], ...]
"""(member, step from which everything of it is lost), ascending."""

SETUP, ROUND = STEPS[:3], STEPS[3:6]


@functools.cache
def prepared(terms: SessionTerms, lost: Losses) -> tuple[dict[int, Disk], bytes]:
    """Set up once for each set of losses in set-up."""
    world = World(terms, fault=losing(dict(lost)))
    assert world.setup().usable
    assert world.refusals == []
    return snapshot(world), world.journal["setup"]


def play(terms: SessionTerms, lost: dict[int, str]) -> World:
    """Return an alliance after set-up, in which ``lost`` go on being lost."""
    early = tuple(sorted((i, step) for i, step in lost.items() if step in SETUP))
    disks, setup = prepared(terms, early)
    world = World(terms, fault=losing(lost))
    restore(world, disks)
    world.journal = {"setup": setup}
    world.restart_desk()
    return world


def patterns(members: Iterable[int], count: int, steps: Sequence[str]) -> Iterator[dict[int, str]]:
    """Every way to lose ``count`` members, each at any of ``steps``."""
    for chosen in combinations(members, count):
        for at in product(steps, repeat=count):
            yield dict(zip(chosen, at, strict=True))


FIVE = make_terms(5, colluders=0, threshold=3, n_min=3, slots=1)
FIVE_WITH_FLOOR = make_terms(5, colluders=0, threshold=3, n_min=4, slots=1)
FIVE_SAFE = make_terms(5, colluders=1, slots=1)
SEVEN = make_terms(7, colluders=2, slots=1)


@pytest.mark.parametrize(
    ("terms", "bounds"),
    [
        (FIVE, ((0, STEPS), (1, STEPS[:-1]), (2, STEPS[:-1]))),
        (FIVE_WITH_FLOOR, ((1, STEPS[:-1]),)),
        (FIVE_SAFE, ((1, STEPS[:-1]),)),
        (SEVEN, ((1, STEPS[:-1]), (2, ROUND))),
    ],
    ids=["five t=3", "five t=3 n_min=4", "five t=4", "seven t=5"],
)
def test_every_survivable_set_of_losses_gives_the_exact_integer_sum(
    terms: SessionTerms, bounds: tuple[tuple[int, Sequence[str]], ...]
) -> None:
    """At n = 5 all of them, at any step; at n = 7 any one at any step, any two in a round."""
    for count, steps in bounds:
        for lost in patterns(terms.indices, count, steps):
            world = play(terms, lost)
            result = world.round(1)
            world.assert_exact(result)
            gone = {i for i, step in lost.items() if step in (*SETUP, "masked")}
            assert set(result.survivors) == set(terms.indices) - gone, lost
            assert world.refusals == []


@pytest.mark.parametrize("n_min", [3, 4])
def test_every_set_of_losses_in_a_round_is_the_exact_sum_or_too_few(n_min: int) -> None:
    """Four members, t = 3, each lost at any step of the round or not at all."""
    terms = make_terms(4, colluders=1, threshold=3, n_min=n_min, slots=1)
    outcomes = set()
    for steps in product(STEPS[3:], repeat=4):
        lost = dict(zip(terms.indices, steps, strict=True))
        survivors = sum(step != "masked" for step in steps)
        sign = sum(step in ("release", "never") for step in steps)
        release = steps.count("never")
        # Nobody lost: one exchange, in which the shares come. Else t sign and t release.
        enough = sign >= 3 if survivors == 4 else release >= 3
        world = play(terms, lost)
        if survivors >= n_min and enough:
            world.assert_exact(world.round(1))
        else:
            with pytest.raises(TooFew):
                world.round(1)
        outcomes.add((survivors >= n_min, enough))
    assert outcomes == {(True, True), (True, False), (False, False), (False, n_min == 4)}


@settings(max_examples=20, **CHECKS)
@given(losses=st.dictionaries(st.integers(1, 5), st.sampled_from(STEPS), min_size=2, max_size=5))
def test_too_many_losses_are_a_typed_refusal_and_never_a_wrong_sum(losses: dict[int, str]) -> None:
    world = World(make_terms(5, slots=1), fault=losing(losses))
    try:
        assert world.setup().usable
        result = world.round(1)
    except TooFew:
        return
    world.assert_exact(result)


@settings(max_examples=90, **CHECKS)
@given(
    target=st.sampled_from(MESSAGES),
    victim=st.integers(1, 5),
    position=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    lossy=st.booleans(),
)
def test_any_flipped_bit_is_an_error_and_never_a_wrong_sum(
    target: str, victim: int, position: float, bit: int, lossy: bool
) -> None:
    flipped: list[int] = []
    # Nobody is asked to release where nobody is lost.
    lossy = lossy or target.startswith("release")
    lose = losing({(victim % 5) + 1: "masked"} if lossy else {})

    def fault(step: str, index: int, data: bytes) -> list[bytes]:
        if step == target and index == victim:
            altered = bytearray(data)
            at = int(position * len(data))
            altered[at] ^= 1 << bit
            flipped.append(at)
            return [bytes(altered)]
        return lose(step, index, data)

    world = World(make_terms(5, slots=1), fault=fault)
    try:
        assert world.setup().usable
        result = world.round(1)
    except TooFew:
        assert flipped
    else:
        world.assert_exact(result)
    assert flipped
    assert world.refusals
    # Whoever sent what was flipped is named: nobody else has signed for it.
    sender = victim if target.endswith("-reply") else 0
    for error in world.refusals:
        assert isinstance(error, SecaggError)
        assert isinstance(error, VerificationError)
        assert error.culprit == sender


@settings(max_examples=35, **CHECKS)
@given(data=st.data())
def test_repeated_delayed_and_reordered_messages_change_nothing(data: st.DataObject) -> None:
    seen: dict[str, list[bytes]] = {}
    actions = st.sampled_from(["pass", "pass", "pass", "twice", "stale before", "stale after"])

    def fault(step: str, index: int, message: bytes) -> list[bytes]:
        action = data.draw(actions)
        side = "reply" if step.endswith("-reply") else "request"
        earlier = seen.setdefault(side, [])
        old = [earlier[data.draw(st.integers(0, len(earlier) - 1))]] if earlier else []
        if not step.startswith("masked"):
            earlier.append(message)
        if action == "twice":
            return [message, message]
        if action == "stale before":
            return [*old, message]
        if action == "stale after":
            return [message, *old]
        return [message]

    world = World(make_terms(4, colluders=0, slots=2), fault=fault)
    assert world.setup().usable
    for round_no in (1, 2):
        result = world.round(round_no)
        world.assert_exact(result)
        assert result.survivors == (1, 2, 3, 4)
    for node in world.nodes.values():
        assert len(node.released) == 2


@settings(max_examples=40, **CHECKS)
@given(seed=st.integers(0, (1 << 32) - 1), slow=st.integers(1, 5))
def test_messages_in_any_order_and_one_member_s_steps_late_change_no_sum(
    seed: int, slow: int
) -> None:
    world = QueuedWorld(make_terms(5, slots=3), Random(seed), slow)
    assert world.setup().usable
    others = {1, 2, 3, 4, 5} - {slow}
    for round_no in (1, 2, 3):
        result = world.round(round_no)
        world.assert_exact(result)
        assert others <= set(result.survivors)
    for node in world.nodes.values():
        rounds = [round_no for round_no, *_ in node.released]
        assert len(rounds) == len(set(rounds))


def test_a_slow_member_is_late_at_every_step() -> None:
    """The network above is not vacuous: it loses no step in time, and holds back a good deal."""
    late = outside = 0
    for seed in range(12):
        world = QueuedWorld(make_terms(5, slots=2), Random(seed), 1 + seed % 5)
        assert world.setup().usable
        results = [world.round(round_no) for round_no in (1, 2)]
        late += world.late
        outside += sum(world.slow not in result.survivors for result in results)
    assert late > 12
    assert 0 < outside < 24


def stubborn_round(world: World, round_no: int) -> Any:
    """Run a round through any number of the coordinator's deaths; None if it could not be won."""
    for _ in range(6):
        try:
            return _attempt(world, round_no)
        except Killed:
            world.restart_desk()
        except TooFew:
            continue
        except SlotsUsedUp:
            return None
    return None


def _attempt(world: World, round_no: int) -> Any:
    desk = world.coordinator
    if desk.round_open and not desk._book.survivors:
        desk.abandon_slot()
        world.save("round")
    if not desk.round_open:
        world.collect(round_no)
    result = world.unmask()
    world.save("round")
    return result


@settings(max_examples=35, **CHECKS)
@given(
    node_fuses=st.dictionaries(st.integers(1, 5), st.integers(0, 14), max_size=3),
    desk_fuses=st.lists(st.integers(0, 10), max_size=3),
    lost=st.dictionaries(st.integers(1, 5), st.sampled_from(STEPS[3:]), max_size=1),
)
def test_no_crash_on_either_side_releases_a_round_twice(
    node_fuses: dict[int, int], desk_fuses: list[int], lost: dict[int, str]
) -> None:
    world = World(make_terms(5, slots=6))
    assert world.setup().usable
    world.fault = losing(lost)
    for index, fuse in node_fuses.items():
        world.nodes[index].fuse = fuse
    finished: dict[int, np.ndarray] = {}
    for round_no in (1, 2, 3):
        world.desk_fuse = desk_fuses[round_no - 1] if len(desk_fuses) >= round_no else None
        result = stubborn_round(world, round_no)
        if result is None:
            world.coordinator.abandon_slot()
            continue
        world.assert_exact(result)
        assert round_no not in finished
        finished[round_no] = result.vector
    for node in world.nodes.values():
        rounds = [round_no for round_no, *_ in node.released]
        assert len(rounds) == len(set(rounds)), node.released
    everything = {entry for node in world.nodes.values() for entry in node.released}
    for round_no in (1, 2, 3):
        assert len({entry for entry in everything if entry[0] == round_no}) <= 1


@settings(max_examples=25, **CHECKS)
@given(step=st.sampled_from(["advertise", "share", "confirm"]), fuse=st.integers(0, 1))
def test_a_member_killed_in_set_up_is_lost_or_goes_on_but_harms_nobody(
    step: str, fuse: int
) -> None:
    world = World(make_terms(5, slots=1))

    def fault(at: str, index: int, data: bytes) -> list[bytes]:
        if at == step and index == 2:
            world.nodes[2].fuse = fuse
            return [data, data]
        return [data]

    world.fault = fault
    assert world.setup().usable
    result = world.round(1)
    world.assert_exact(result)
    # Written or not, an answer that never left can be made again, except the very first: the
    # guard has joined the session, its keys are gone.
    assert (2 in result.survivors) == (step != "advertise" or fuse == 0)


def test_every_refusal_is_typed() -> None:
    world = World(make_terms(5, slots=1))
    for garbage in (b"", b"\0" * 40, b"touchstone", bytes(range(256)) * 4):
        with pytest.raises(TouchstoneError):
            world.nodes[1].member.handle(garbage)
        with pytest.raises(TouchstoneError):
            world.coordinator.on_advertise(1, garbage)
