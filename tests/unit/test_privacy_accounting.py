"""What is spent: distributions of losses, held to the closed form and to Renyi accounting."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant

from participant.privacy.accounting import Charge, epsilon_of, gaussian
from participant.privacy.projection import planned_charges, project_charges
from shared.errors import BadInput, MalformedMessage
from shared.privacy.gaussian_dp import gaussian_delta, gaussian_mu
from shared.privacy.terms import PrivacyTerms, evaluation_epsilon, full_rows, plan_privacy
from shared.secagg.tail import LOSS_CAP, LOSS_UNIT

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


def test_runs_compose_below_the_sum_of_their_epsilons() -> None:
    run = planned_charges(4.0, DELTA, 10, 3, 2)
    once, twice = epsilon_of(run, DELTA), epsilon_of([*run, *run], DELTA)
    assert once <= 4.0
    assert once < twice < 2 * once


def test_evaluations_alone_cost_no_more_than_their_sum() -> None:
    assert epsilon_of([Charge("laplace", 0.2)] * 5, DELTA) == pytest.approx(1.0, abs=0.02)
    assert epsilon_of([], DELTA) == 0
    assert epsilon_of([Charge("none", 0.0)], DELTA) == 0


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
        (1, 0.5, 3, 0), (1, DELTA, 0, 0), (1, DELTA, 3, 1.0),
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
