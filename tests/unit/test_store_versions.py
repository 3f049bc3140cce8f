"""Exports in any order: the youngest version of a record counts, and its history is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from participant.store import Store
from participant.store.writer import Tally
from shared.domain.schemas import SCHEMAS
from tests.support.store import NOON, listings, shops

MONTHS = [NOON + timedelta(days=30 * at) for at in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def shop(label: int, month: int | None) -> pl.DataFrame:
    return shops(["a"], label, None if month is None else MONTHS[month])


def latest(store: Store) -> int:
    (label,) = store.records.frame("shops")["label"]
    return int(label)


def former(store: Store) -> list[tuple[int, datetime | None]]:
    columns = ["label", "updated_at"]
    return store.records.older("shops", pl.Series(["a"]), columns).rows()


def test_an_older_export_imported_later_does_not_replace_a_younger_one(store: Store) -> None:
    store.records.put("shops", shop(2, 2))
    assert store.records.put("shops", shop(1, 1)) == Tally(updated=1)
    assert latest(store) == 2
    assert former(store) == [(1, MONTHS[1])]
    assert store.records.count("shops") == 1
    assert store.records.older_versions("shops") == 1


def test_of_one_time_the_last_that_came_corrects_the_other(store: Store) -> None:
    for label, month in [(1, 1), (2, 2), (3, 1), (4, 2)]:
        store.records.put("shops", shop(label, month))
    assert latest(store) == 4
    assert former(store) == [(3, MONTHS[1])]


def test_a_correction_can_be_taken_back(store: Store) -> None:
    for label in (1, 2, 1):
        assert store.records.put("shops", shop(label, 1)).kept == 1
    assert latest(store) == 1
    assert former(store) == []


def test_a_version_without_a_time_replaces_all_before_it(store: Store) -> None:
    for label, month in [(1, 1), (2, None)]:
        store.records.put("shops", shop(label, month))
    assert latest(store) == 2
    assert former(store) == []
    store.records.put("shops", shop(3, 0))
    assert latest(store) == 3
    assert former(store) == [(2, None)]


def test_a_version_that_was_replaced_can_come_back(store: Store) -> None:
    for label, month in [(1, 1), (2, None)]:
        store.records.put("shops", shop(label, month))
    assert store.records.put("shops", shop(1, 1)) == Tally(updated=1)
    assert latest(store) == 1


def test_a_file_may_hold_the_whole_history_in_any_order(store: Store) -> None:
    history = pl.concat([shop(3, 3), shop(1, 1), shop(2, 2)])
    assert store.records.put("shops", history) == Tally(added=1, duplicates=2)
    assert latest(store) == 3
    assert former(store) == [(1, MONTHS[1]), (2, MONTHS[2])]
    assert store.records.count("shops") == 1


def test_a_history_that_grows_adds_what_is_new(store: Store) -> None:
    store.records.put("shops", pl.concat([shop(1, 1), shop(2, 2)]))
    grown = pl.concat([shop(0, 0), shop(1, 1), shop(2, 2)])
    assert store.records.put("shops", grown) == Tally(updated=1, duplicates=2)
    assert former(store) == [(1, MONTHS[1]), (0, MONTHS[0])]
    assert store.records.put("shops", grown) == Tally(unchanged=1, duplicates=2)
    assert store.records.older_versions("shops") == 2


def test_without_times_in_every_row_the_last_of_a_file_counts(store: Store) -> None:
    store.records.put("shops", pl.concat([shop(1, 1), shop(2, None), shop(3, 0)]))
    assert latest(store) == 3
    assert former(store) == []


def test_a_kind_without_times_goes_by_arrival(store: Store) -> None:
    def complaint(text: str) -> pl.DataFrame:
        row = ("C1", "L1", "customer", "fake", text, "en", NOON)
        return pl.DataFrame([row], schema=SCHEMAS["complaints"], orient="row")

    for text in ("one", "two", "one"):
        assert store.records.put("complaints", complaint(text)).kept == 1
    assert store.records.frame("complaints")["text"].to_list() == ["one"]
    older = store.records.older("complaints", pl.Series(["C1"]), ["text"])
    assert older["text"].to_list() == ["one", "two"]


def test_records_come_in_order_of_arrival_with_every_column(store: Store) -> None:
    names = [f"L{at}" for at in range(50)]
    for price, month in [(2.0, 2), (1.0, 1), (3.0, 3)]:
        put = listings(names[: 40 - month], price).with_columns(
            updated_at=pl.lit(MONTHS[month], dtype=SCHEMAS["listings"]["updated_at"])
        )
        store.records.put("listings", put)
    store.records.put("listings", listings(names[40:]))
    found = store.records.frame("listings")
    assert found.schema == SCHEMAS["listings"]
    # Those of the last export are where that one is; the others are where they first came.
    assert found["listing_id"].to_list() == [*names[37:39], *names[:37], *names[40:]]
    older = store.records.older("listings", pl.Series(names[:2]))
    assert older.schema == SCHEMAS["listings"]
    assert older.select("listing_id", "price").rows() == [
        (name, price) for price in (2.0, 1.0) for name in names[:2]
    ]
