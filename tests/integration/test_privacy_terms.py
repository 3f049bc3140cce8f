"""A private run whose noise does not give the epsilon it states is refused by the member itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.rounds.plan import RunSettings
from shared.model.layout import ModelSpec, feature_space_hash
from tests.support.refusals import Case
from tests.support.runs import BITS, SETTINGS, federation

PRIVATE = RunSettings(**{**SETTINGS.model_dump(), "rounds": 2, "dp_epsilon": 8.0})


@pytest.fixture(scope="module")
def shared_case(tmp_path_factory):
    with federation(tmp_path_factory.mktemp("terms")) as fed:
        case = Case(fed)
        yield case
        case.store.close()


@pytest.fixture
def case(shared_case):
    shared_case.reset()
    return shared_case


def noise(privacy, **factors):
    """Return the terms with some of their amounts multiplied."""
    return replace(privacy, **{n: round(getattr(privacy, n) * by) for n, by in factors.items()})


WEAK = {
    "a tenth less noise a step": lambda stated: noise(stated, noise_milli=0.9),
    "more steps with the same noise": lambda stated: noise(stated, steps=2),
    "a count that tells of single records": lambda stated: noise(stated, count_noise_milli=0.05),
    "a smaller delta with the same noise": lambda stated: noise(stated, delta_e9=0.1),
}


@pytest.mark.parametrize("how", sorted(WEAK))
def test_noise_that_does_not_give_the_epsilon_is_refused(case, how):
    run_id = case.start(PRIVATE)
    case.tamper(run_id, privacy=WEAK[how](case.context(run_id).manifest.privacy))
    case.check_refused(run_id, "privacy_terms")
    assert case.store.ledger.entries() == [], "nothing was trained, so nothing was spent"


def test_an_epsilon_that_the_noise_does_not_give_is_refused(case):
    run_id = case.start(PRIVATE)
    stated = case.context(run_id).manifest.epsilon_floor_milli
    case.tamper(run_id, epsilon_floor_milli=stated - 500)
    case.check_refused(run_id, "privacy_terms")


def test_a_model_without_bounded_gradients_is_refused_whatever_its_noise(case):
    run_id = case.start(PRIVATE)
    network = ModelSpec(hash_bits=BITS)
    case.tamper(run_id, model_spec=network.encode(), feature_space=feature_space_hash(network))
    case.check_refused(run_id, "privacy_terms")


def test_the_same_run_with_the_noise_it_needs_or_more_is_agreed_to(case):
    assert case.ask(case.start(PRIVATE)) == ""
    run_id = case.start(PRIVATE)
    more = noise(case.context(run_id).manifest.privacy, noise_milli=1.5, count_noise_milli=1.5)
    case.tamper(run_id, privacy=more)
    assert case.ask(run_id) == ""
