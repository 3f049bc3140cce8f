from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import participant.store.database as database_module
from participant.store import Store
from participant.store.models import StoreTable
from shared.errors import ConfigError, NotFound, StorageError
from tests.support.store import shops


def test_the_head_constant_names_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(database_module.__file__).with_name("migrations")))
    assert scripts.get_current_head() == database_module.SCHEMA_HEAD


def test_migrations_and_models_describe_the_same_tables(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path}/store/touchstone.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, StoreTable.metadata) == []


def test_files_are_private_and_the_journal_is_a_write_ahead_log(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.audit.append("test.done", {})
    store.records.put("shops", shops(["a"]))
    for path in (tmp_path / "store").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    with store.database.reading() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("pragma journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("pragma foreign_keys").scalar_one() == 1


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    path = tmp_path / "store" / "touchstone.db"
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(ConfigError, match="9999"):
        Store.open(tmp_path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select version_num from alembic_version").fetchone() == ("9999",)


def test_opening_twice_changes_nothing(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    first.audit.append("test.done", {"n": 1})
    assert Store.open(tmp_path).audit.head() == first.audit.head()


def test_a_store_is_not_made_when_it_should_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Store.open(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_records_without_their_database_are_not_swept_away(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.records.put("shops", shops(["a"]))
    store.close()
    for path in (tmp_path / "store").glob("touchstone.db*"):
        path.unlink()
    with pytest.raises(StorageError, match="database is missing"):
        Store.open(tmp_path)
    assert (tmp_path / "store" / "segments" / "shops" / "000001.parquet").exists()


def test_a_file_that_is_no_database_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "touchstone.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="not a database"):
        Store.open(tmp_path)


def test_a_held_lock_is_a_storage_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 50)
    store = Store.open(tmp_path)
    other = sqlite3.connect(tmp_path / "store" / "touchstone.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StorageError, match="another process holds it"):
        store.audit.append("test.done", {})
    other.execute("rollback")
    assert store.audit.append("test.done", {}).seq == 1
