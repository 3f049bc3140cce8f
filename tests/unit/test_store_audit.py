from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from participant.store import Store
from shared.audit.chain import Head
from shared.clock import FixedClock
from shared.errors import BadInput, VerificationError
from tests.support.store import NOON


def test_events_are_chained_and_proved(tmp_path: Path) -> None:
    clock = FixedClock(NOON)
    store = Store.open(tmp_path, clock=clock)
    first = store.audit.append("data.imported", {"added": 3})
    clock.advance(60)
    second = store.audit.append("release.activated", {"release_id": "00ff", "score": 0.25})
    assert (first.seq, second.seq) == (1, 2)
    assert second.prev_hash == first.hash
    assert [event.at for event in store.audit.events()] == [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:01:00Z",
    ]
    assert [event.seq for event in store.audit.events(after=1)] == [2]
    assert store.audit.verify() == store.audit.head() == Head(2, second.hash)


@pytest.mark.parametrize("kind", ["", "import", "Data.imported", "data imported", "data."])
def test_a_kind_is_noun_dot_verb(tmp_path: Path, kind: str) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(BadInput):
        store.audit.append(kind, {})
    assert store.audit.head().seq == 0


@pytest.mark.parametrize("verb", ["update audit_event set kind = 'x.y'", "delete from audit_event"])
def test_the_database_itself_refuses_to_rewrite_history(tmp_path: Path, verb: str) -> None:
    store = Store.open(tmp_path)
    store.audit.append("data.imported", {})
    with (
        pytest.raises(IntegrityError, match="append-only"),
        store.database.transaction() as session,
    ):
        session.connection().exec_driver_sql(verb)
    store.audit.verify()


@pytest.mark.parametrize(
    "tampering",
    [
        "update audit_event set body = '{\"added\":4}' where seq = 2",
        "update audit_event set body = 'no json' where seq = 2",
        "update audit_event set at = '2020-01-01T00:00:00Z' where seq = 2",
        "delete from audit_event where seq = 2",
        "delete from audit_event where seq = 1",
    ],
)
def test_tampering_below_the_triggers_is_found(tmp_path: Path, tampering: str) -> None:
    store = Store.open(tmp_path)
    for added in range(3):
        store.audit.append("data.imported", {"added": added})
    with sqlite3.connect(tmp_path / "store" / "touchstone.db") as raw:
        raw.execute("drop trigger audit_event_no_update")
        raw.execute("drop trigger audit_event_no_delete")
        raw.execute(tampering)
    with pytest.raises(VerificationError):
        store.audit.verify()


def test_many_writers_make_one_chain(tmp_path: Path) -> None:
    Store.open(tmp_path).close()

    def work(writer: int) -> None:
        store = Store.open(tmp_path)
        for n in range(10):
            store.audit.append("test.done", {"writer": writer, "n": n})
        store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert Store.open(tmp_path).audit.verify().seq == 40


def test_an_event_in_a_transaction_is_lost_with_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path)

    def fail() -> None:
        with store.database.transaction() as session:
            store.audit.append("test.done", {}, session=session)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.audit.head().seq == 0
