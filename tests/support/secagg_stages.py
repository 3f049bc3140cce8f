"""A secure sum brought to each of its stages, and requests that are wrong in one way."""

from __future__ import annotations

import hashlib

from shared.secagg import wire
from shared.secagg.round_messages import MaskedRequest, SurvivorSet
from tests.support.secagg import CONFIG, MODEL, World, forge, make_terms

EVERYBODY = (1, 2, 3, 4, 5)


def advertised() -> World:
    world = World(make_terms(5))
    desk = world.coordinator
    for index in EVERYBODY:
        world.exchange("advertise", index, desk.advertise_request(), desk.on_advertise)
    return world


def shared() -> World:
    world = advertised()
    desk = world.coordinator
    request = desk.share_request()
    for index in EVERYBODY:
        world.exchange("share", index, request, desk.on_share)
    return world


def ready(n: int = 5, **terms: object) -> World:
    world = World(make_terms(n, **terms))  # type: ignore[arg-type]
    assert world.setup().usable
    return world


def masked_request(
    world: World, slot: int = 0, participants: tuple[int, ...] = EVERYBODY, **changes: object
) -> MaskedRequest:
    values: dict[str, object] = {
        "round": 1,
        "slot": slot,
        "participants": participants,
        "model_sha256": hashlib.sha256(MODEL).digest(),
        "config": CONFIG,
        "words": world.layout.words,
        "quantiser": world.terms.quantiser.encode(),
        **changes,
    }
    return MaskedRequest(**values)  # type: ignore[arg-type]


def masked(world: World, slot: int = 0, **changes: object) -> bytes:
    return forge(world, wire.MASKED, masked_request(world, slot, **changes).encode())  # type: ignore[arg-type]


def slot_of(world: World, index: int = 1):
    return world.nodes[index].member._me.state.slot


def unmask_for(world: World, alive: tuple[int, ...], *, t2: bytes | None = None) -> bytes:
    claim = SurvivorSet.of(t2 or slot_of(world).t2, EVERYBODY, alive)
    return forge(world, wire.UNMASK, claim.encode())
