"""The operator's `doctor`: what it says of a sound coordinator, and of each way to break one."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.main import app
from coordinator.doctor.service import examine
from coordinator.serving import LOCK_FILE
from shared.clock import FixedClock, SystemClock
from shared.doctor.report import Check, Status
from shared.errors import Exit
from shared.locks import process_lock
from tests.support.alliance import Alliance, found_alliance, serving


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("alliance"), ["a"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("other"), [], name="Other alliance")


@pytest.fixture
def folder(alliance: Alliance, tmp_path: Path) -> Path:
    target = shutil.copytree(alliance.coordinator_dir, tmp_path / "coordinator")
    target.chmod(0o700)
    return target


def found(folder: Path, *, offline: bool = True, days: int = 0) -> dict[str, Check]:
    clock = FixedClock(SystemClock().now() + timedelta(days=days))
    return {check.name: check for check in examine(folder, offline=offline, clock=clock).checks}


def result(check: Check) -> tuple[Status, str]:
    return check.status, check.code


def test_a_serving_coordinator_is_healthy(alliance: Alliance) -> None:
    with serving(alliance), process_lock(alliance.coordinator_dir / LOCK_FILE, "a coordinator"):
        checks = found(alliance.coordinator_dir, offline=False)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        checks, Status.OK
    )
    assert {"database", "audit", "keys", "port", "enrolment_port"} <= checks.keys()


def test_nobody_serves(folder: Path) -> None:
    checks = found(folder, offline=False)
    assert checks["process"].code == "not_running"
    assert result(checks["port"]) == (Status.WARN, "not_serving")
    assert result(checks["enrolment_port"]) == (Status.WARN, "not_serving")


def test_another_coordinator_has_the_port(
    alliance: Alliance, other: Alliance, folder: Path
) -> None:
    with sqlite3.connect(folder / "touchstone.db") as raw:
        raw.execute("update alliance set port = ?", (other.port,))
    with serving(other):
        assert result(found(folder, offline=False)["port"]) == (Status.FAIL, "tls_failed")


@pytest.mark.parametrize(
    ("days", "status", "code"),
    [(800, Status.WARN, "expires_soon"), (826, Status.FAIL, "expired")],
)
def test_a_server_certificate_that_ends(folder: Path, days: int, status: Status, code: str) -> None:
    checks = found(folder, days=days)
    assert result(checks["certificate_server"]) == (status, code)
    assert checks["certificate_authority"].status is Status.OK
    assert checks["keys"].status is Status.OK


@pytest.mark.parametrize("name", ["ca.key.pem", "server.key.pem", "server.pem"])
def test_keys_of_another_alliance(folder: Path, other: Alliance, name: str) -> None:
    shutil.copy(other.coordinator_dir / "keys" / name, folder / "keys" / name)
    failed = [check for check in found(folder).values() if check.status is Status.FAIL]
    assert [check.code for check in failed] == ["certificate_refused"]


def test_keys_and_database_of_two_alliances(folder: Path, other: Alliance) -> None:
    shutil.copytree(other.coordinator_dir / "keys", folder / "keys", dirs_exist_ok=True)
    checks = found(folder)
    assert result(checks["audit"]) == (Status.FAIL, "state")
    assert "another alliance" in checks["audit"].text


def test_keys_that_others_can_read(folder: Path) -> None:
    (folder / "keys" / "ca.key.pem").chmod(0o644)
    assert result(found(folder)["modes"]) == (Status.FAIL, "readable_by_others")


def test_a_database_that_does_not_fit_is_not_opened(folder: Path) -> None:
    with sqlite3.connect(folder / "touchstone.db") as raw:
        raw.execute("update alembic_version set version_num = '0001'")
    checks = found(folder, offline=False)
    assert result(checks["database"]) == (Status.WARN, "schema_old")
    assert {checks[name].status for name in ("audit", "port")} == {Status.SKIPPED}
    with sqlite3.connect(folder / "touchstone.db") as raw:
        assert raw.execute("select version_num from alembic_version").fetchone() == ("0001",)


def test_an_altered_audit_log(folder: Path) -> None:
    with sqlite3.connect(folder / "touchstone.db") as raw:
        raw.execute("update audit_event set actor = 'nobody' where seq = 1")
    assert result(found(folder)["audit"]) == (Status.FAIL, "verification")


def test_an_empty_folder_is_looked_over_to_the_end(tmp_path: Path) -> None:
    checks = found(tmp_path)
    assert {"python", "disk", "certificates", "database"} <= checks.keys()
    assert result(checks["database"]) == (Status.FAIL, "no_alliance")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    checks = found(tmp_path / "nowhere")
    assert result(checks["folder"]) == (Status.FAIL, "no_folder")
    assert {checks[name].status for name in ("modes", "disk", "database")} == {Status.SKIPPED}


def test_the_command(folder: Path) -> None:
    options = ["doctor", "--offline", "--dir", str(folder)]
    assert CliRunner().invoke(app, options).exit_code == 0
    (folder / "keys" / "signing.key.pem").unlink()
    broken = CliRunner().invoke(app, [*options, "--json"])
    assert broken.exit_code == Exit.DOCTOR
    assert json.loads(broken.stdout)["data"]["healthy"] is False
