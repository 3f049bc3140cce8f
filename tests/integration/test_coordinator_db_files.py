"""Opening databases: missing, damaged, locked, older and newer ones."""

from __future__ import annotations

import sqlite3
from io import StringIO
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from coordinator.db import Database, Unit, engine, schema
from shared.errors import ConfigError, Exit, NotFound, StorageError
from tests.support.alliance import found_alliance


def test_a_folder_without_a_database_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Database.open(tmp_path)
    assert "init" in caught.value.hint
    assert not (tmp_path / "touchstone.db").exists()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Database.open(tmp_path, create=True).close()
    with sqlite3.connect(tmp_path / "touchstone.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="schema 9999") as caught:
        Database.open(tmp_path)
    assert caught.value.exit_code is Exit.CONFIG
    with sqlite3.connect(tmp_path / "touchstone.db") as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_the_named_head_is_the_folders_head() -> None:
    script = ScriptDirectory.from_config(schema.alembic_config())
    assert script.get_heads() == [schema.HEAD]


def test_the_migrations_are_plain_ddl_for_postgresql() -> None:
    config = schema.alembic_config()
    config.set_main_option("dialect", "postgresql")
    config.output_buffer = StringIO()
    command.upgrade(config, "head", sql=True)
    ddl = config.output_buffer.getvalue()
    for expected in ("CREATE TABLE member", "BYTEA", "TIMESTAMP WITHOUT TIME ZONE", "BIGINT"):
        assert expected in ddl


def test_a_damaged_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "touchstone.db").write_bytes(b"this is not a database, not at all " * 100)
    with pytest.raises(StorageError):
        Database.open(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_called_damaged(tmp_path: Path, part: float) -> None:
    folder = found_alliance(tmp_path, ["a", "b"]).coordinator_dir
    file = folder / "touchstone.db"
    Database.open(folder).close()
    for journal in folder.glob("touchstone.db-*"):
        journal.unlink()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])

    def use() -> None:
        database = Database.open(folder)
        database.read("all", lambda unit: (unit.members.all(), unit.audit.verify()))

    with pytest.raises(StorageError, match=r"damaged|not a database") as caught:
        use()
    assert "from a backup" in caught.value.hint


def test_sqlite_is_set_up_to_survive(tmp_path: Path) -> None:
    db = Database.open(tmp_path, create=True)
    with db.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    db.close()
    assert pragmas == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,
        "busy_timeout": engine.BUSY_TIMEOUT_MS,
    }


def test_a_lost_race_is_run_again_and_another_failure_is_not(tmp_path: Path) -> None:
    db = Database.open(tmp_path, create=True)
    calls: list[str] = []

    def racing(unit: Unit) -> int:
        calls.append("racing")
        if len(calls) < 3:
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        return len(calls)

    assert db.write("race", racing) == 3

    def broken(unit: Unit) -> None:
        calls.append("broken")
        raise OperationalError("", {}, sqlite3.OperationalError("disk I/O error"))

    with pytest.raises(StorageError) as caught:
        db.write("note_things", broken)
    assert calls.count("broken") == 1
    assert "note things" in caught.value.message
    assert "I/O" not in caught.value.message
    db.close()


def test_a_writer_waits_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    db = Database.open(tmp_path, create=True)
    other = sqlite3.connect(tmp_path / "touchstone.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert db.read("read", lambda unit: unit.members.all()) == []  # WAL: readers do not wait
    with pytest.raises(StorageError):
        db.write("log", lambda unit: unit.audit.append("a.b"))
    other.execute("ROLLBACK")
    other.close()
    assert db.write("log", lambda unit: unit.audit.append("a.b")).seq == 1
    db.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "postgresql+nodriver://x/y"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Database.open(url)


def test_the_settings_file_may_name_the_database(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    (tmp_path / "coordinator.toml").write_text(f'[database]\nurl = "sqlite:///{elsewhere}"\n')
    Database.open(tmp_path).close()
    assert elsewhere.exists()
    assert not (tmp_path / "touchstone.db").exists()
