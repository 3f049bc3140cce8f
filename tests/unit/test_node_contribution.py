"""There is always something to mask: no failure of training or evaluation leaves the member."""

from __future__ import annotations

import numpy as np
import pytest

from participant.node.contribution import EPSILON_BUDGET, Contribution
from participant.node.learner import DataFacts, DeferredLearner
from participant.training.local import NothingToTrain, TrainingDiverged
from participant.training.private import PrivateConfig, noise_update
from shared.limits import MAX_MODEL_WEIGHT
from shared.model.layout import ModelSpec, init_vector
from shared.privacy.terms import plan_privacy
from shared.secagg import Evaluation, NoiseTerms, Quantiser, build_vector
from shared.secagg.errors import BadVector
from shared.trust.manifest import TrainingTerms
from tests.support.manifests import a_manifest
from tests.support.runs import KnownLearner

SPEC = ModelSpec(hash_bits=10)
LINEAR = ModelSpec.compact(10)
MODEL = init_vector(SPEC, 0)

FAILURES = [
    TrainingDiverged("of 12 rows"),
    NothingToTrain("none"),
    FloatingPointError(),
    KeyError(),
]


def manifest(**changes):
    return a_manifest(model_spec=SPEC.encode(), **changes)


def private_manifest():
    terms = plan_privacy(2.0, 1e-5, rounds=3, steps=2)
    return a_manifest(model_spec=LINEAR.encode(), epsilon_floor_milli=2000, privacy=terms)


class Gives(KnownLearner):
    """Answers with what it is given, or raises it."""

    def __init__(self, result):  # type: ignore[no-untyped-def]
        super().__init__(0.01, SPEC)
        self.result = result

    def _give(self):  # type: ignore[no-untyped-def]
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def facts(self) -> DataFacts:
        return self._give()

    def update(self, model, terms, *, seed, threads):  # type: ignore[no-untyped-def]
        return self._give()

    def private_update(self, model, config):  # type: ignore[no-untyped-def]
        return self._give()

    def evaluate(self, model) -> Evaluation:  # type: ignore[no-untyped-def]
        return self._give()


BAD_UPDATES = [
    *FAILURES,
    np.full(SPEC.n_params, np.nan, np.float32),
    np.append(np.zeros(SPEC.n_params - 1, np.float32), np.float32(np.inf)),
    np.zeros(SPEC.n_params, np.float64),
    np.zeros(3, np.float32),
]


@pytest.mark.parametrize("result", BAD_UPDATES)
def test_an_update_that_cannot_be_made_moves_nothing(result) -> None:
    own = Contribution(Gives(result), manifest(), 1)
    update = own.update(MODEL, 1)
    assert update.dtype == np.float32
    assert update.shape == (SPEC.n_params,)
    assert not update.any()
    code = getattr(result, "code", type(result).__name__)
    expected = code if isinstance(result, Exception) else BadVector.code
    assert own.withheld == [("update", expected)]


@pytest.mark.parametrize("result", BAD_UPDATES[:5])
def test_in_a_private_run_noise_as_large_as_anybodys_stands_in(result) -> None:
    made = private_manifest()
    vector = init_vector(LINEAR, 0)
    own = Contribution(Gives(result), made, 1)
    first, second = own.update(vector, 1), own.update(vector, 1)
    assert (first != second).all()
    rate = made.training.learning_rate_milli / 1000 / made.training.full_weight_rows
    expected = rate * made.privacy.noise * made.privacy.steps**0.5
    assert np.std(first[:-1]) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("weight", [0.0, MAX_MODEL_WEIGHT, -MAX_MODEL_WEIGHT])
def test_noise_is_finite_from_every_model_within_the_bounds(weight) -> None:
    config = PrivateConfig(plan_privacy(2.0, 1e-5, rounds=3, steps=2), 1e4, 1)
    vector = np.full(LINEAR.n_params, weight, np.float32)
    assert np.isfinite(noise_update(LINEAR, vector, config)).all()


def test_what_can_be_made_is_sent_as_it_is() -> None:
    own = Contribution(KnownLearner(0.25, SPEC), manifest(), 1)
    assert (own.update(MODEL, 1) == np.float32(0.25)).all()
    assert own.evaluation(MODEL, affordable=True).rows == 400
    assert own.weight() == 1.0
    assert own.withheld == []


BAD_EVALUATIONS = [
    *FAILURES,
    Evaluation(1, np.zeros(19, np.int64), np.zeros(20, np.int64)),
    Evaluation(1, -np.ones(20, np.int64), np.zeros(20, np.int64)),
    Evaluation(1, np.full(20, np.nan), np.zeros(20, np.int64)),
]


@pytest.mark.parametrize("result", BAD_EVALUATIONS)
def test_an_evaluation_that_cannot_be_made_is_noise(result) -> None:
    own = Contribution(Gives(result), manifest(), 1)
    evaluation = own.evaluation(MODEL, affordable=True)
    assert evaluation.rows == evaluation.loss_steps == 0
    assert [part for part, _code in own.withheld] == ["evaluation"]
    quantiser = Quantiser(16, clip_coord=1.0)
    vector = build_vector(np.zeros(6, np.float32), 1.0, quantiser, evaluation, NoiseTerms(1.0, 0))
    assert vector[0] == vector[-1] == 1


def test_an_evaluation_that_the_budget_does_not_allow_is_not_made() -> None:
    own = Contribution(Gives(AssertionError("asked")), manifest(), 1)
    assert own.evaluation(MODEL, affordable=False).rows == 0
    assert own.withheld == [("evaluation", EPSILON_BUDGET)]


def test_rows_that_cannot_be_counted_weigh_least() -> None:
    bucketed = manifest(training=TrainingTerms(weighting="bucketed"))
    own = Contribution(Gives(KeyError()), bucketed, 1)
    assert own.weight() == 0.125
    assert own.withheld == [("weight", "KeyError")]


def test_records_that_cannot_be_read_fail_no_round() -> None:
    def broken():  # type: ignore[no-untyped-def]
        raise NothingToTrain("no record can be read")

    own = Contribution(DeferredLearner(broken), manifest(), 1)
    assert not own.update(MODEL, 1).any()
    assert own.evaluation(MODEL, affordable=True).rows == 0
    assert {code for _part, code in own.withheld} == {NothingToTrain.code}
