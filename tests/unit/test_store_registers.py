from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from participant.privacy.accounting import Charge, Mechanism
from participant.store import Store, migrations
from participant.store.database import Database
from participant.store.registers import PrivacyLedger
from shared.clock import FixedClock
from shared.errors import BadInput, StateError
from shared.locks import MIGRATING
from tests.support.store import NOON


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path, clock=FixedClock(NOON))


EVALUATION = Charge("laplace", 0.5)
TRAINING = Charge("gaussian", 0.25)


def test_the_ledger_keeps_what_each_run_was_charged(store: Store) -> None:
    store.ledger.charge("aa", 1, "1.0", "training", TRAINING)
    store.ledger.charge("aa", 1, "1.0", "evaluation", EVALUATION)
    store.ledger.charge("bb", 1, "1.0", "training", Charge("none", 0.0))
    assert store.ledger.charges() == [TRAINING, EVALUATION, Charge("none", 0.0)]
    assert store.ledger.charges(without="bb") == [TRAINING, EVALUATION]
    assert store.ledger.charges(without="aa") == [Charge("none", 0.0)]
    assert store.ledger.entries("bb")[0].at == NOON
    assert store.ledger.has("aa", "1.0")
    assert not store.ledger.has("aa", "1.1")


def test_one_slot_is_charged_once_and_a_retry_in_another_again(store: Store) -> None:
    store.ledger.charge("aa", 1, "1.0", "training", TRAINING)
    store.ledger.charge("aa", 1, "1.0", "training", TRAINING)
    assert store.ledger.charges() == [TRAINING]
    store.ledger.charge("aa", 1, "1.1", "training", TRAINING)
    store.ledger.charge("aa", 1, "2.0", "training", TRAINING)
    assert store.ledger.charges() == [TRAINING] * 3


def test_a_charge_cannot_be_changed(store: Store) -> None:
    store.ledger.charge("aa", 1, "1.0", "training", TRAINING)
    with pytest.raises(StateError):
        store.ledger.charge("aa", 1, "1.0", "training", Charge("gaussian", 0.1))
    with pytest.raises(StateError):
        store.ledger.charge("aa", 2, "1.0", "training", TRAINING)
    for verb in ("update privacy_charge set amount = 0", "delete from privacy_charge"):
        with pytest.raises(IntegrityError), store.database.transaction() as session:
            session.connection().exec_driver_sql(verb)
    assert store.ledger.charges() == [TRAINING]


@pytest.mark.parametrize(
    ("mechanism", "amount"),
    [("gaussian", -0.1), ("laplace", float("nan")), ("gaussian", float("inf")), ("none", 1.0)],
)
def test_impossible_amounts_cannot_be_charged(mechanism: Mechanism, amount: float) -> None:
    with pytest.raises(BadInput):
        Charge(mechanism, amount)


def test_a_ledger_of_the_first_schema_is_carried_over(tmp_path: Path) -> None:
    database = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{database}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        with MIGRATING:
            command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "insert into privacy_ledger (run_id, round, kind, epsilon, delta, at) "
            "values ('aa', 5, 'evaluation', 1.5, 0, '2026-01-01 12:00:00')"
        )
    engine.dispose()
    ledger = PrivacyLedger(Database(database), FixedClock(NOON))
    assert ledger.charges() == [Charge("laplace", 1.5)]
    assert (ledger.entries()[0].round, ledger.entries()[0].kind) == (5, "evaluation")


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
