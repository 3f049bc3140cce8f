"""What a member answers does not depend on its records, whatever model it is asked to train on."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

import shared.model.layout as layout
from participant.store import Store
from participant.training.dataset import TrainingSet
from participant.training.inference import evaluate_histograms
from participant.training.local import TrainConfig, TrainingDiverged, local_update
from participant.training.split import position
from shared.fleet.exchange import FAILED, OK
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec
from shared.secagg import Evaluation
from tests.support.by_hand import ByHand
from tests.support.runs import SETTINGS, KnownLearner, federation

ROWS, VICTIM, OTHER = 200, 3, 2
TRAINS = [row for row in range(ROWS) if position(f"seller-{row}") >= 0.4]
JUDGES = [row for row in range(ROWS) if position(f"seller-{row}") < 0.15]
A, B = 7, 11
"""Two tokens; one record of the victim has both of them."""


class RecordLearner(KnownLearner):
    """Trains and evaluates as a real node does, on records made here."""

    def with_joint_record(self, row: int | None) -> RecordLearner:
        generator = np.random.default_rng(5)
        ids: list[int] = []
        offsets = [0]
        for number in range(ROWS):
            ids += generator.choice(np.arange(100, self.spec.rows), 30, replace=False).tolist()
            ids += [A, B] if number == row else []
            offsets.append(len(ids))
        tokens = np.array(ids, np.int32)
        values = np.where(tokens < 100, np.float32(2.0), np.float32(0.3))
        batch = FeatureBatch(tokens, values, np.array(offsets, np.int64))
        labels = (generator.random(ROWS) < 0.2).astype(np.int8)
        sellers = [f"seller-{number}" for number in range(ROWS)]
        self.records = TrainingSet.from_features(self.spec, batch, labels, groups=sellers)
        return self

    def update(self, model, terms, *, seed, threads):  # type: ignore[no-untyped-def]
        config = TrainConfig(lr=terms.learning_rate_milli / 1000, epochs=1, seed=seed, threads=1)
        return local_update(self.spec, model, self.records, config)

    def evaluate(self, model) -> Evaluation:  # type: ignore[no-untyped-def]
        return Evaluation(*evaluate_histograms(self.spec, model, self.records.part("holdout")))


def circuit(spec: ModelSpec) -> np.ndarray:
    """Return finite weights that make the logit infinite for a record with both tokens alone."""
    vector, parts = np.zeros(spec.n_params, np.float32), spec.slices
    embedding = vector[parts.embedding].reshape(spec.rows, spec.embed_dim)
    embedding[[A, B], 0] = 1e10
    vector[parts.w1].reshape(spec.embed_dim, spec.hidden)[0, 0] = 1e10
    vector[parts.b1][0] = -3e20
    vector[parts.w2][0] = 3e38
    return vector


def clash(spec: ModelSpec) -> np.ndarray:
    """Return finite weights whose sum is no number for a record with both tokens alone."""
    vector = np.zeros(spec.n_params, np.float32)
    vector[spec.slices.wide][[A, B]] = 3.4e38, -3.4e38
    return vector


ATTACKS = {"training": (circuit, TRAINS[3]), "evaluation": (clash, JUDGES[3])}
EVERY = SETTINGS.model_copy(update={"evaluate_every": 1})


@pytest.fixture(scope="module")
def joint():
    """Where the victim's joint record is; read when a run's records are."""
    return {"row": 0}


@pytest.fixture(scope="module")
def hand(tmp_path_factory, joint):
    def learner(index: int, spec: ModelSpec) -> KnownLearner:
        if index not in (VICTIM, OTHER):
            return KnownLearner(0.01 * index, spec)
        row = joint["row"] if index == VICTIM else None
        return RecordLearner(0.01, spec).with_joint_record(row)

    with federation(tmp_path_factory.mktemp("answers")) as fed:
        hand = ByHand(fed, learner)
        yield hand
        hand.close()


@pytest.fixture(params=sorted(ATTACKS))
def attack(request, hand, joint):
    """Return a model and a session in which only the victim has a record that it was made for."""
    make, joint["row"] = ATTACKS[request.param]
    session = hand.session(EVERY)
    return request.param, make(session.spec), session


def kinds(answers):
    return {(answer.status, answer.code, answer.text) for answer in answers.values()}


def spent(hand, index, run):
    with closing(Store.open(hand.folder(index))) as store:
        return store.ledger.entries(run)


def withheld(hand, index, run):
    with closing(Store.open(hand.folder(index))) as store:
        bodies = [event.body for event in store.audit.events() if event.kind == "round.withheld"]
    return [body for body in bodies if body["run_id"] == run]


def test_a_model_made_to_break_training_is_refused_for_everybody_alike(hand, attack) -> None:
    _name, model, session = attack
    answers = session.mask(model, 2, (VICTIM, OTHER))
    assert kinds(answers) == {(FAILED, "model_out_of_bounds", "")}
    assert spent(hand, VICTIM, session.run) == spent(hand, OTHER, session.run) == []


def test_one_record_does_not_change_the_kind_of_answer(hand, attack, monkeypatch) -> None:
    """Even where the bound on weights did not stop the model; its own people learn of it."""
    monkeypatch.setattr(layout, "MAX_MODEL_WEIGHT", float("inf"))
    name, model, session = attack
    answers = session.mask(model, 2)
    assert kinds(answers) == {(OK, "", "")}
    assert len({answer.vector.size for answer in answers.values()}) == 1
    assert len(spent(hand, VICTIM, session.run)) == len(spent(hand, OTHER, session.run)) == 2
    session.take(answers)
    for index in answers:
        session.core.on_unmask(index, session.unmask(index).payload)
    assert session.core.finish_round().survivors == tuple(answers)
    failed = {"run_id": session.run, "round": 2, "part": "update", "code": TrainingDiverged.code}
    assert withheld(hand, VICTIM, session.run) == ([failed] if name == "training" else [])
    assert withheld(hand, OTHER, session.run) == []


def test_the_first_round_starts_from_the_manifests_model(hand) -> None:
    session = hand.session()
    other = session.first_model()
    other[-1] += 1
    assert kinds(session.mask(other, 1, (VICTIM,))) == {(FAILED, "verification", "")}
    session.core.abandon_slot()
    assert kinds(session.mask(session.first_model(), 1, (VICTIM,))) == {(OK, "", "")}
