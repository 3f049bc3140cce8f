"""What must hold for every loss, flip, repetition and crash, not only for those we thought of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import TouchstoneError, VerificationError
from shared.secagg.errors import SlotsUsedUp, TooFew
from tests.support.secagg import Killed, World, losing, make_terms

CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
STEPS = ("advertise", "share", "confirm", "masked", "unmask", "release", "never")
MESSAGES = tuple(f"{step}{end}" for step in STEPS[:-1] for end in ("", "-reply"))


@settings(max_examples=35, **CHECKS)
@given(
    n=st.integers(4, 7),
    losses=st.lists(st.sampled_from(STEPS), min_size=7, max_size=7),
    data=st.data(),
)
def test_any_survivable_losses_give_the_exact_integer_sum(
    n: int, losses: list[str], data: st.DataObject
) -> None:
    terms = make_terms(n, colluders=(n - 1) // 3, slots=1)
    early = n - max(terms.threshold, terms.n_min)
    spared = data.draw(st.permutations(range(1, n + 1)))
    lost = {index: losses[index - 1] for index in spared[:early]}
    world = World(terms, fault=losing(lost))
    assert world.setup().usable
    result = world.round(1)
    world.assert_exact(result)
    before_masked = {i for i, step in lost.items() if STEPS.index(step) <= STEPS.index("masked")}
    assert set(result.survivors) == set(terms.indices) - before_masked
    assert world.refusals == []


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
    if flipped:
        assert world.refusals
        assert all(isinstance(error, VerificationError) for error in world.refusals)


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
