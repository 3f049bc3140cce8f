from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import participant.store.index as index_module
import participant.store.writer as writer_module
from participant.store import Store
from participant.store.index import Hashes, IndexFile
from participant.store.writer import Tally
from shared.domain.schemas import SCHEMAS
from shared.errors import StateError, StorageError
from tests.support.store import NOON, listings, shops


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def labels(store: Store) -> dict[str, int]:
    return dict(store.records.frame("shops", ["shop_id", "label"]).rows())


def test_an_empty_store_gives_empty_tables_with_canonical_columns(store: Store) -> None:
    for kind, schema in SCHEMAS.items():
        assert store.records.frame(kind).schema == schema
        assert store.records.count(kind) == 0


def test_what_is_put_comes_back_equal(store: Store) -> None:
    frame = listings(["a", "b", "ü\u200b"])
    store.records.put("listings", frame)
    assert store.records.frame("listings").equals(frame)
    assert Store.open(store.folder.parent).records.frame("listings").equals(frame)


def test_the_same_records_again_add_nothing(store: Store) -> None:
    assert store.records.put("shops", shops(["a", "b"])) == Tally(added=2)
    files = sorted((store.folder / "segments").rglob("*.parquet"))
    assert store.records.put("shops", shops(["b", "a"])) == Tally(unchanged=2)
    assert sorted((store.folder / "segments").rglob("*.parquet")) == files
    assert store.records.count("shops") == 2


def test_a_changed_record_is_a_newer_version(store: Store) -> None:
    store.records.put("shops", shops(["a", "b"], label=0))
    assert store.records.put("shops", shops(["a", "c"], label=1)) == Tally(added=1, updated=1)
    assert labels(store) == {"a": 1, "b": 0, "c": 1}
    assert store.records.count("shops") == 3
    assert store.records.older_versions("shops") == 1


def test_a_record_that_changes_back_is_a_version_too(store: Store) -> None:
    for label in (0, 1, 0):
        store.records.put("shops", shops(["a"], label=label))
    assert labels(store) == {"a": 0}
    assert store.records.older_versions("shops") == 2


def test_null_and_empty_are_different_values(store: Store) -> None:
    empty = shops(["a"]).with_columns(url=pl.lit(""))
    store.records.put("shops", shops(["a"]))
    assert store.records.put("shops", empty) == Tally(updated=1)


def test_in_one_import_the_last_of_equal_records_wins(store: Store) -> None:
    with store.records.writer("shops") as writer:
        writer.add(pl.concat([shops(["a"], 0), shops(["a", "b"], 1)]))
        writer.add(shops(["b"], 0))
        with store.database.transaction() as session:
            writer.commit(session)
    assert writer.tally == Tally(added=2, duplicates=2)
    assert labels(store) == {"a": 1, "b": 0}
    assert store.records.count("shops") == 2


def test_a_verdict_is_known_by_listing_source_and_time(store: Store) -> None:
    def verdict(source: str, hours: int, reversed_at: object = None) -> pl.DataFrame:
        row = ("L1", "counterfeit", source, NOON + timedelta(hours=hours), reversed_at)
        return pl.DataFrame([row], schema=SCHEMAS["verdicts"], orient="row")

    assert store.records.put("verdicts", verdict("analyst", 0)).added == 1
    assert store.records.put("verdicts", verdict("customs", 0)).added == 1
    assert store.records.put("verdicts", verdict("analyst", 1)).added == 1
    assert store.records.put("verdicts", verdict("analyst", 0, NOON)).updated == 1
    assert store.records.count("verdicts") == 3


def test_segments_hold_at_most_so_many_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SEGMENT_ROWS", 4)
    names = [f"s{at}" for at in range(10)]
    store.records.put("shops", shops(names))
    files = sorted((store.folder / "segments" / "shops").iterdir())
    assert [pl.read_parquet(file).height for file in files] == [4, 4, 2]
    assert store.records.frame("shops")["shop_id"].to_list() == names
    assert store.records.put("shops", shops(names)) == Tally(unchanged=10)


@pytest.fixture
def colliding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identifier hashes of one bit, so that nearly every look-up meets a stranger."""
    honest: Callable[..., Hashes] = IndexFile.hashes

    def one_bit(self: IndexFile, keys: pl.Series, frame: pl.DataFrame) -> Hashes:
        hashes = honest(self, keys, frame)
        return Hashes(hashes.ids & np.uint64(1), hashes.prints)

    monkeypatch.setattr(IndexFile, "hashes", one_bit)


@pytest.mark.usefixtures("colliding")
def test_the_full_identifier_decides_when_hashes_collide(store: Store) -> None:
    names = [f"s{at}" for at in range(40)]
    assert store.records.put("shops", shops(names)) == Tally(added=40)
    assert store.records.put("shops", shops(names)) == Tally(unchanged=40)
    assert store.records.put("shops", shops([*names[:7], "new"], 1)) == Tally(added=1, updated=7)
    assert sum(labels(store).values()) == 8


def test_the_index_is_rebuilt_when_it_is_gone(store: Store) -> None:
    store.records.put("shops", shops(["a", "b"]))
    store.records.put("shops", shops(["a"], 1))
    for file in store.folder.glob("index.db*"):
        file.unlink()
    assert store.records.put("shops", shops(["b"])) == Tally(unchanged=1)
    assert store.records.put("shops", shops(["a"], 1)) == Tally(unchanged=1)


def test_the_index_of_another_polars_version_is_rebuilt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.records.put("shops", shops(["a"]))
    monkeypatch.setattr(index_module, "_FORMAT", "1/polars-0.0.1")
    honest = pl.DataFrame.hash_rows
    monkeypatch.setattr(pl.DataFrame, "hash_rows", lambda self, seed: honest(self, seed) ^ 5)
    assert store.records.put("shops", shops(["a"])) == Tally(unchanged=1)


def test_a_writer_that_does_not_commit_leaves_nothing(store: Store) -> None:
    store.records.put("shops", shops(["a"]))
    with store.records.writer("shops") as writer:
        writer.add(shops(["b"]))
        assert len(list((store.folder / "segments" / "shops").iterdir())) == 2
        assert labels(store) == {"a": 0}, "a reader saw rows that were not committed"
    assert [file.name for file in (store.folder / "segments" / "shops").iterdir()] == [
        "000001.parquet"
    ]
    assert store.records.put("shops", shops(["b"])) == Tally(added=1)


def test_one_import_at_a_time(store: Store) -> None:
    other = Store.open(store.folder.parent)
    with (
        store.records.writer("shops"),
        pytest.raises(StateError, match="another import"),
        other.records.writer("shops"),
    ):
        pass
    other.records.put("shops", shops(["a"]))


def test_what_a_killed_import_left_is_swept_by_the_next(store: Store) -> None:
    store.records.put("shops", shops(["a"]))
    folder = store.folder / "segments" / "shops"
    shops(["ghost"]).write_parquet(folder / "000002.parquet")
    (folder / ".000003.parquet.1.ab.part").write_bytes(b"half")
    assert labels(store) == {"a": 0}
    store.records.put("shops", shops(["b"]))
    assert labels(store) == {"a": 0, "b": 0}
    assert sorted(file.name for file in folder.iterdir()) == ["000001.parquet", "000002.parquet"]


def test_a_missing_or_damaged_segment_is_named(store: Store) -> None:
    store.records.put("shops", shops(["a"]))
    assert store.records.verify() == 1
    path = store.folder / "segments" / "shops" / "000001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"shops/000001\.parquet"):
        store.records.verify()
    path.write_bytes(data[:50])
    with pytest.raises(StorageError):
        store.records.frame("shops")
    path.unlink()
    with pytest.raises(StorageError, match=r"shops/000001\.parquet"):
        store.records.frame("shops")


def test_other_columns_are_a_mistake_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="canonical"):
        store.records.put("shops", shops(["a"]).drop("url"))
    assert store.records.count("shops") == 0
