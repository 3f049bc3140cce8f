"""What is spent: distributions of losses, held to the closed form and to Renyi accounting."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant

from participant.privacy import accounting
from participant.privacy.accounting import (
    MAX_LAPLACE,
    MAX_MU,
    Charge,
    epsilon_of,
    gaussian,
)
from participant.privacy.projection import (
    Spent,
    planned_charges,
    project,
    project_charges,
    training_charge,
)
from shared.errors import BadInput, MalformedMessage
from shared.privacy.gaussian_dp import (
    NO_USES,
    PureUses,
    composed_delta,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
)
from shared.privacy.terms import (
    PrivacyTerms,
    evaluation_epsilon,
    evaluations_of,
    full_rows,
    plan_privacy,
)
from shared.secagg.tail import LOSS_CAP, LOSS_UNIT
from tests.support.manifests import a_manifest

DELTA = 1e-5


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 8.0])
def test_distributions_agree_with_the_closed_form_and_stay_below_renyi(epsilon: float) -> None:
    terms = plan_privacy(epsilon, DELTA, rounds=10, steps=3)
    charges = [gaussian(terms.multipliers())] * 10
    found = epsilon_of(charges, DELTA)
    assert found == pytest.approx(epsilon, rel=2e-3)
    accountant = RdpAccountant()
    for multiplier in (terms.noise,) * 30 + (terms.count_noise,) * 10:
        accountant.compose(dp_accounting.GaussianDpEvent(multiplier))
    renyi = accountant.get_epsilon(DELTA)
    assert found <= renyi <= 1.15 * found


def test_the_curve_and_its_inverse_fit() -> None:
    for epsilon in (0.1, 1.0, 8.0, 50.0):
        mu = gaussian_mu(epsilon, DELTA)
        assert gaussian_delta(epsilon, mu) <= DELTA < gaussian_delta(epsilon, mu * 1.0001)
    with pytest.raises(ValueError, match="positive"):
        gaussian_mu(0, DELTA)


@pytest.mark.parametrize(
    ("epsilon", "count", "each"), [(1.0, 2, 0.05), (8.0, 2, 0.4), (4.0, 5, 0.3)]
)
def test_gaussians_and_evaluations_compose_as_randomised_response_does(
    epsilon: float, count: int, each: float
) -> None:
    """The closed form is the loss distribution of the worst mechanisms, and a plan meets it."""
    uses = PureUses(count, each)
    mu = gaussian_mu(epsilon, DELTA, uses)
    assert composed_delta(epsilon, mu, uses) <= DELTA < composed_delta(epsilon, mu * 1.001, uses)
    grid = 1e-4
    worst = pld.from_randomized_response(
        2 / (1 + math.exp(each)), 2, value_discretization_interval=grid
    ).self_compose(count)
    both = worst.compose(pld.from_gaussian_mechanism(1 / mu, value_discretization_interval=grid))
    assert both.get_delta_for_epsilon(epsilon) == pytest.approx(DELTA, rel=5e-3)


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 8.0])
def test_a_member_finds_no_more_than_was_planned_and_renyi_agrees(epsilon: float) -> None:
    found = epsilon_of(planned_charges(epsilon, DELTA, 10, 3, 2), DELTA)
    assert 0.97 * epsilon < found <= epsilon
    each = evaluation_epsilon(math.inf, epsilon, 2)
    terms = plan_privacy(epsilon, DELTA, rounds=10, steps=3, evaluations=PureUses(2, each))
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(terms.noise), 30)
    accountant.compose(dp_accounting.GaussianDpEvent(terms.count_noise), 10)
    accountant.compose(dp_accounting.LaplaceDpEvent(1 / each), 2)
    assert found <= accountant.get_epsilon(DELTA) <= 1.15 * found


def test_evaluations_are_counted_as_a_run_makes_them() -> None:
    assert [evaluations_of(*case) for case in ((10, 5), (11, 5), (3, 5), (1, 1))] == [2, 3, 1, 1]


def test_runs_compose_below_the_sum_of_their_epsilons() -> None:
    run = planned_charges(4.0, DELTA, 10, 3, 2)
    once, twice = epsilon_of(run, DELTA), epsilon_of([*run, *run], DELTA)
    assert once <= 4.0
    assert once < twice < 2 * once


def test_evaluations_alone_cost_no_more_than_their_sum() -> None:
    assert epsilon_of([Charge("laplace", 0.2)] * 5, DELTA) == pytest.approx(1.0, abs=0.02)
    assert epsilon_of([], DELTA) == 0
    assert epsilon_of([Charge("none", 0.0)], DELTA) == 0


def test_amounts_beyond_every_budget_are_bounded_from_above_without_a_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    just = [(Charge("gaussian", MAX_MU),), (Charge("laplace", MAX_LAPLACE),)]
    exact = [epsilon_of(charges, DELTA) for charges in just]
    monkeypatch.setattr(accounting, "_composed", None)
    for charges, below in zip(just, exact, strict=True):
        more = Charge(charges[0].mechanism, charges[0].amount * 1.001)
        assert below <= epsilon_of([more], DELTA) < 1.01 * below
    assert epsilon_of([Charge("laplace", 4e6)] * 10, DELTA) == pytest.approx(4e7)
    assert epsilon_of([Charge("gaussian", 1e4)], DELTA) > 5e7


def test_many_small_evaluations_are_still_composed() -> None:
    assert epsilon_of([Charge("laplace", 0.05)] * 10_000, DELTA) < 50


def test_the_closed_form_is_turned_around_upwards() -> None:
    for epsilon in (0.1, 1.0, 8.0, 50.0):
        mu = gaussian_mu(epsilon, DELTA)
        assert gaussian_epsilon(mu, DELTA) == pytest.approx(epsilon)
        assert gaussian_delta(gaussian_epsilon(mu, DELTA), mu) <= DELTA
    assert gaussian_epsilon(0.0, DELTA) == 0.0
    for mu in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite"):
            gaussian_epsilon(mu, DELTA)


def test_a_run_that_repeated_rounds_counts_what_it_was_charged_and_what_is_left() -> None:
    terms = plan_privacy(8.0, DELTA, rounds=4, steps=3)
    manifest = a_manifest(rounds=4, epsilon_floor_milli=8000, privacy=terms)
    each = training_charge(manifest)

    def total(charged: int, begun: int) -> float:
        return project(manifest, Spent((), (each,) * charged, begun), DELTA).total

    whole = total(0, 0)
    assert total(1, 1) == total(2, 2) == whole
    assert total(3, 1) > total(2, 1) > whole
    assert total(4, 4) > whole, "all that can still be asked for is the last round once more"


def test_a_projection_says_run_total_and_spent() -> None:
    run = planned_charges(2.0, DELTA, 5, 3, 1)
    found = project_charges(run, run, DELTA, DELTA)
    assert found.run == pytest.approx(found.spent)
    assert found.run < found.total < 2 * found.run
    assert project_charges([Charge("none", 0.0)], [], DELTA, 0).run == float("inf")


def test_less_epsilon_asks_for_more_rows_and_evaluations_take_a_tenth() -> None:
    assert full_rows(8.0, DELTA) == 1000
    assert full_rows(2.0, DELTA) > 3000
    assert evaluation_epsilon(1.0, 8.0, 2) == 0.4
    assert evaluation_epsilon(0.1, 8.0, 2) == 0.1
    with pytest.raises(BadInput):
        evaluation_epsilon(1.0, 0.001, 10)


def test_impossible_plans_and_terms_are_refused() -> None:
    for epsilon, delta, steps, evaluations in [
        (1, 0.5, 3, NO_USES), (1, DELTA, 0, NO_USES), (1, DELTA, 3, PureUses(2, 0.6)),
        (0, DELTA, 3, NO_USES), (float("inf"), DELTA, 3, NO_USES),
    ]:  # fmt: skip
        with pytest.raises(BadInput):
            plan_privacy(epsilon, delta, rounds=1, steps=steps, evaluations=evaluations)
    good = plan_privacy(1.0, DELTA, rounds=1, steps=3)
    good.check(private=True)
    PrivacyTerms().check(private=False)
    for terms, private in [
        (good, False), (PrivacyTerms(), True), (PrivacyTerms(10_000, 3, 0, 5), True),
        (PrivacyTerms(10_000, 3, 5, 5000), True), (PrivacyTerms(10**9, 3, 5000, 5000), True),
    ]:  # fmt: skip
        with pytest.raises(MalformedMessage):
            terms.check(private=private)


def _losses(scale: float, sensitivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return losses and probabilities of one discrete Laplace mechanism, by its definition."""
    far = int(40 * scale + sensitivity + 40)
    at = np.arange(-far, far + 1)
    q = math.exp(-1 / scale)
    chance = (1 - q) / (1 + q) * q ** np.abs(at)
    whole, place = np.unique(np.abs(at - sensitivity) - np.abs(at), return_inverse=True)
    return whole / scale, np.bincount(place, chance)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0, 20.0])
def test_an_evaluation_is_never_accounted_for_as_less_than_it_is(epsilon: float) -> None:
    steps = LOSS_CAP * LOSS_UNIT
    count, count_chance = _losses(2 / epsilon, 1)
    loss, loss_chance = _losses(2 * steps / epsilon, steps)
    total = (count[:, None] + loss[None]).ravel()
    chance = (count_chance[:, None] * loss_chance[None]).ravel()
    for share in (0.2, 0.5, 0.9, 0.999):
        at = epsilon * share
        delta = float(np.sum(chance * np.maximum(0, 1 - np.exp(np.minimum(at - total, 0)))))
        if 0 < delta < 1:
            found = epsilon_of([Charge("laplace", epsilon)], delta)
            assert at - 1e-9 <= found <= epsilon + 2e-3
