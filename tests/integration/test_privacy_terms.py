"""A private run whose noise does not give the epsilon it states is refused by the member itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.rounds.plan import RunSettings
from participant.privacy import accounting
from shared.errors import Exit
from shared.fleet.exchange import REFUSED, Instruction
from shared.model.layout import ModelSpec, feature_space_hash
from shared.trust.manifest import EvaluationTerms, sign_manifest
from tests.support.commands import run
from tests.support.refusals import MEMBER
from tests.support.runs import BITS, SETTINGS

PRIVATE = RunSettings(**{**SETTINGS.model_dump(), "rounds": 2, "dp_epsilon": 8.0})


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


# -- what would be slow or large to account for ---------------------------------------------------


@pytest.fixture
def no_distributions(monkeypatch):
    """Fail if a privacy loss distribution is built: the amounts decide how large it is."""

    def built(*_arguments):
        raise AssertionError("a distribution was built for what a manifest asks")

    monkeypatch.setattr(accounting, "_composed", built)


def test_noise_that_is_next_to_none_is_refused_without_accounting(case, no_distributions):
    run_id = case.start(PRIVATE)
    weak = replace(
        case.context(run_id).manifest.privacy, steps=1000, noise_milli=10, count_noise_milli=10
    )
    case.tamper(run_id, privacy=weak, rounds=10)
    assert case.ask(run_id) == "privacy_terms"


@pytest.mark.parametrize("epsilon_milli", [10**6, 4 * 10**9])
def test_evaluations_of_any_epsilon_cost_no_memory(case, no_distributions, epsilon_milli):
    run_id = case.start(PRIVATE)
    case.tamper(run_id, evaluation=EvaluationTerms(1, epsilon_milli, 200))
    assert case.ask(run_id) == "privacy_terms"
    run_id = case.start(SETTINGS)
    case.tamper(run_id, evaluation=EvaluationTerms(1, epsilon_milli, 200))
    assert case.ask(run_id) == "epsilon_budget"


def test_a_model_that_this_software_does_not_know_is_refused_and_explained(case):
    run_id = case.start(SETTINGS)
    context, node = case.context(run_id), case.fed.nodes.runtime(MEMBER)
    signed = sign_manifest(replace(context.manifest, model_spec=b"no model"), context.key)
    answer = node.answer(node.consent, Instruction(manifest=signed))
    assert (answer.status, answer.code) == (REFUSED, "feature_space")
    code, printed = run(case.folder, "run", "explain", run_id)
    assert (code, "model not known here" in printed) == (Exit.POLICY, True)
    assert "this node would say no: feature_space" in printed


def test_a_purpose_that_is_not_allowed_costs_no_look_at_the_records(case):
    case.policy('allowed_purposes = ["else"]')

    def read(*_arguments):
        raise AssertionError("the records were read")

    case.restart(make_learner=read)
    assert case.ask(case.start(PRIVATE)) == "purpose_not_allowed"
