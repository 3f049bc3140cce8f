from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from participant.store import Store
from shared.clock import FixedClock
from shared.errors import BadInput, StateError
from tests.support.store import NOON


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path, clock=FixedClock(NOON))


def test_privacy_is_summed_over_everything_or_one_run(store: Store) -> None:
    store.ledger.spend("aa", 1, "train", 0.5, 1e-6)
    store.ledger.spend("aa", 2, "train", 0.25, 1e-6)
    store.ledger.spend("bb", 1, "train", 1.0, 0.0)
    assert store.ledger.total() == pytest.approx((1.75, 2e-6))
    assert store.ledger.total("aa") == pytest.approx((0.75, 2e-6))
    assert store.ledger.total("cc") == (0, 0)
    assert store.ledger.entries("bb")[0].at == NOON


def test_a_retried_round_is_charged_once(store: Store) -> None:
    store.ledger.spend("aa", 1, "train", 0.5, 1e-6)
    store.ledger.spend("aa", 1, "train", 0.5, 1e-6)
    assert store.ledger.total() == (0.5, 1e-6)


def test_a_charge_cannot_be_changed(store: Store) -> None:
    store.ledger.spend("aa", 1, "train", 0.5, 1e-6)
    with pytest.raises(StateError):
        store.ledger.spend("aa", 1, "train", 0.1, 1e-6)
    for verb in ("update privacy_ledger set epsilon = 0", "delete from privacy_ledger"):
        with pytest.raises(IntegrityError), store.database.transaction() as session:
            session.connection().exec_driver_sql(verb)
    assert store.ledger.total() == (0.5, 1e-6)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(-0.1, 0), (float("nan"), 0), (float("inf"), 0), (1, -1e-9), (1, 1.1), (1, float("nan"))],
)
def test_impossible_amounts_are_refused(store: Store, epsilon: float, delta: float) -> None:
    with pytest.raises(BadInput):
        store.ledger.spend("aa", 1, "train", epsilon, delta)
    assert store.ledger.entries() == []


def test_the_running_release_is_the_last_one_activated_or_rolled_back_to(store: Store) -> None:
    assert store.deployments.current() is None
    store.deployments.record("r1", "activate", "first", {"pr_auc": 0.5})
    store.deployments.record("r2", "keep", "mine is better", {})
    current = store.deployments.current()
    assert current is not None
    assert (current.release_id, current.metrics, current.at) == ("r1", {"pr_auc": 0.5}, NOON)
    store.deployments.record("r3", "activate", "better", {})
    store.deployments.record("r1", "rollback", "asked", {})
    current = store.deployments.current()
    assert current is not None
    assert (current.release_id, current.action) == ("r1", "rollback")
    assert [row.release_id for row in store.deployments.history()] == ["r1", "r2", "r3", "r1"]


def test_an_unknown_action_is_refused_by_the_database(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.deployments.record("r1", "explode", "", {})  # type: ignore[arg-type]


def test_the_last_answer_to_a_run_stands(store: Store) -> None:
    assert store.consents.get("aa") is None
    store.consents.record("aa", "refused", "cohort_too_small")
    store.consents.record("aa", "accepted", "ok")
    answer = store.consents.get("aa")
    assert answer is not None
    assert (answer.decision, answer.reason_code, answer.at) == ("accepted", "ok", NOON)
    assert len(store.consents.entries()) == 1
