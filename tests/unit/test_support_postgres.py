"""Tests that need a PostgreSQL server are skipped with a reason where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support import postgres


def test_the_reason_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "psycopg" in postgres.missing()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "initdb" in postgres.missing()
    programs = tmp_path / "17" / "bin"
    programs.mkdir(parents=True)
    (programs / "initdb").touch()
    assert postgres.missing() == ""


def test_the_contract_counts_the_tests_that_it_skips(collected: list[str]) -> None:
    assert any("[postgres]" in item for item in collected)
    assert sum("[postgres]" in item for item in collected) == sum(
        "[sqlite]" in item for item in collected
    )


@pytest.fixture
def collected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The contract's tests as they are collected, whether or not a server is there."""
    monkeypatch.setattr(postgres, "missing", lambda: "none here")
    path = request.config.rootpath / "tests/contract/test_coordinator_db_contract.py"
    module = pytest.Module.from_parent(request.session, path=path)
    return [item.nodeid for item in request.session.genitems(module)]
