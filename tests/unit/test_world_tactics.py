from __future__ import annotations

import pytest

from simulations.world import World, WorldConfig, generate, new_tactic_mask, split, unseen_actors
from simulations.world.profiles import profiles
from simulations.world.tactics import CAUGHT_AFTER, PAUSE_WEEKS, Heat, affinity


@pytest.fixture(scope="module")
def world() -> World:
    return generate(WorldConfig(listings_per_week=60, seed=5))


def test_a_tactic_reaches_others_after_its_birth(world: World) -> None:
    travelled = [t for t in world.tactics if len(t.stays) > 1]
    assert len(travelled) > 0.5 * len(world.tactics)
    for tactic in world.tactics:
        born = tactic.stays[tactic.born_at][0]
        assert all(stay[0] > born for name, stay in tactic.stays.items() if name != tactic.born_at)
        assert all(8 <= last - first <= 25 for first, last in tactic.stays.values())


def test_travel_takes_about_five_weeks(world: World) -> None:
    waits = [
        first - tactic.stays[tactic.born_at][0]
        for tactic in world.tactics
        for name, (first, _) in tactic.stays.items()
        if name != tactic.born_at
    ]
    assert 4.0 <= sum(waits) / len(waits) <= 7.0


def test_listings_use_a_tactic_only_while_it_stays(world: World) -> None:
    stays = {tactic.tactic_id: tactic.stays for tactic in world.tactics}
    for name, member in world.members.items():
        used = member.truth.filter(member.truth["tactic_id"].is_not_null())
        for tactic, week in used.select("tactic_id", "week").iter_rows():
            first, last = stays[tactic][name]
            assert first <= week <= last


def test_a_new_tactic_is_new_here_and_known_elsewhere(world: World) -> None:
    seen = {
        name: set(m.truth.filter(split(world, name).train)["tactic_id"].drop_nulls())
        for name, m in world.members.items()
    }
    cases = 0
    for name, member in world.members.items():
        mask = new_tactic_mask(world, name)
        found = member.truth.filter(mask)
        cases += found.height
        assert found["counterfeit"].all()
        assert not (mask & ~split(world, name).test).any()
        for tactic in found["tactic_id"]:
            assert tactic not in seen[name]
            assert any(tactic in other for other in seen.values())
    assert cases >= 5


def test_without_spread_no_tactic_is_known_elsewhere() -> None:
    control = generate(WorldConfig(listings_per_week=40, seed=5, spread=False))
    assert all(set(tactic.stays) == {tactic.born_at} for tactic in control.tactics)
    assert not any(new_tactic_mask(control, name).any() for name in control.members)


def test_without_code_words_counterfeiters_write_none() -> None:
    control = generate(WorldConfig(listings_per_week=40, seed=5, code_words=False))
    for member in control.members.values():
        assert not member.truth.filter("counterfeit")["code_word"].any()
        assert member.truth["code_word"].any()


def test_a_caught_tactic_pauses_and_returns_in_disguise(world: World) -> None:
    tactic, heat = world.tactics[0], Heat()
    before = heat.obfuscation(tactic)
    for _ in range(CAUGHT_AFTER):
        assert not heat.paused(tactic, 3)
        heat.used(tactic, 3)
    assert heat.paused(tactic, 3 + PAUSE_WEEKS)
    assert not heat.paused(tactic, 4 + PAUSE_WEEKS)
    assert heat.obfuscation(tactic) > before


def test_crews_run_many_accounts_over_several_members(world: World) -> None:
    homes: dict[str, set[str]] = {}
    accounts: dict[str, set[str]] = {}
    for name, member in world.members.items():
        for crew, seller in (
            member.truth.drop_nulls("crew_id").select("crew_id", "seller_id").rows()
        ):
            homes.setdefault(crew, set()).add(name)
            accounts.setdefault(crew, set()).add(seller)
    assert sum(len(found) > 1 for found in homes.values()) > 0.5 * len(homes)
    assert sum(len(found) > 3 for found in accounts.values()) > 0.5 * len(accounts)


def test_unseen_actors_never_trained_anywhere(world: World) -> None:
    for name in world.members:
        mask = unseen_actors(world, name)
        assert not (mask & split(world, name).train).any()
        assert (mask & split(world, name).test).any()


def test_shared_language_and_trade_bring_members_closer() -> None:
    by_name = {p.name: p for p in profiles(WorldConfig())}
    near = affinity(by_name["veltrine"], by_name["portolan"])
    far = affinity(by_name["veltrine"], by_name["felsgrat"])
    assert 0.5 <= far < near <= 1.0
