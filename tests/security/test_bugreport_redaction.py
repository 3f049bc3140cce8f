"""`bugreport` lets nothing out: secrets and listing text lie in every file, and in no report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from coordinator.enrolment.service import invite
from participant.cli.main import app
from participant.doctor import bugreport
from participant.doctor.bugreport import bug_report, log_summary
from participant.doctor.service import examine
from participant.node.config import NodeConfig
from participant.node.keystore import KeyStore
from participant.store import Store
from shared.clock import SystemClock
from shared.doctor.report import Check, Report, Status
from shared.errors import Exit
from shared.trust.invitation import write_invitation
from tests.support.alliance import Alliance, found_alliance, serving
from tests.support.store import listings

MARK = "xq7zmark"
"""Is part of everything planted, and of nothing else."""

MEMBER, ALLIANCE, HOST = f"{MARK}-member", f"{MARK} alliance", f"{MARK}.example"
PURPOSE, TITLE = f"{MARK}-purpose", f"{MARK} very cheap handbag"


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp(MARK), [MEMBER], name=ALLIANCE)


@pytest.fixture(scope="module")
def node(alliance: Alliance) -> Path:
    """A member's folder in which every file holds something that must not leave."""
    folder = alliance.dir_of(MEMBER)
    store = Store.open(folder)
    store.records.put("listings", _planted(listings(["1", "2", "3"])))
    store.audit.append("data.imported", {"file": f"{MARK}.csv"})
    store.close()
    for name in ("session-00.bin", "guard-00.bin", "boot"):
        (folder / "secsum").mkdir(mode=0o700, exist_ok=True)
        (folder / "secsum" / name).write_bytes(MARK.encode() * 4)
    database = alliance.database()
    write_invitation(folder / "token", invite(alliance.coordinator_dir, database, f"{MARK}-b"))
    database.close()
    (folder / "policy.toml").write_text(f'allowed_purposes = ["{PURPOSE}"]\nthreads = 2\n')
    (folder / "models").mkdir(mode=0o700)
    (folder / "models" / "active.json").write_text(json.dumps({"reason": MARK}))
    (folder / "node.log").write_text("\n".join(json.dumps(line) for line in _log()) + "\nnot json")
    for path in folder.rglob("*.toml"):
        path.write_text(f"# {MARK} in a comment\n" + path.read_text())
    return folder


def _planted(frame: pl.DataFrame) -> pl.DataFrame:
    texts = [name for name in ("title", "description", "seller_id", "brand") if name in frame]
    return frame.with_columns(pl.lit(TITLE).alias(name) for name in texts)


def _log() -> Iterator[dict[str, Any]]:
    yield {"event": "lost", "level": "info", "text": f"could not reach {HOST}"}
    yield {"event": MARK, "level": MARK, "code": MARK, "reason": MARK}
    yield {"event": "step failed", "level": "warning", "code": "network", "reason": TITLE}
    yield {"event": "step failed", "level": "warning", "code": "network", MARK: MARK}
    yield {"event": "x", "level": ["info", MARK], "code": {MARK: MARK}}
    yield {"event": "secret", "level": "error", "exception": f"Traceback {TITLE}"}


def _private(node: Path) -> Iterator[str]:
    """Yield texts of this folder that would give something away, besides the mark."""
    for path in KeyStore.of(node).folder.glob("*.pem"):
        yield from (line for line in path.read_text().splitlines() if "-----" not in line)
    config = NodeConfig.load(node)
    yield config.alliance.id
    yield config.alliance.ca_fingerprint
    yield config.alliance.coordinator_public_key
    yield from (line for line in (node / "token").read_text().split('"') if len(line) > 20)


def _check(node: Path, text: str) -> None:
    assert MARK not in text.lower()
    assert str(node) not in text
    for private in _private(node):
        assert private not in text


@pytest.mark.parametrize("reachable", [True, False], ids=["on line", "nobody serves"])
def test_nothing_planted_comes_out(alliance: Alliance, node: Path, reachable: bool) -> None:
    if reachable:
        with serving(alliance):
            result = CliRunner().invoke(app, ["bugreport", "--dir", str(node)])
    else:
        result = CliRunner().invoke(app, ["bugreport", "--dir", str(node)])
    assert result.exit_code == 0, result.output
    _check(node, result.stdout)
    data = json.loads(result.stdout)["data"]
    states = {check["name"]: check["code"] for check in data["checks"]}
    assert states["grpc"] == ("ok" if reachable else "skipped")
    assert data["log"]["codes"] == {"network": 2, "other": 2}
    assert data["policy"]["threads"] == "changed"
    assert data["policy"]["min_cohort"] == "default"
    assert data["config"]["host"] == "ipv4"


def test_a_host_name_is_only_told_to_be_one(node: Path) -> None:
    config = NodeConfig.load(node)
    hidden = config.coordinator.model_copy(update={"host": HOST})
    config.model_copy(update={"coordinator": hidden}).write(node)
    try:
        report = bug_report(node, examine(node, offline=True), SystemClock().now())
    finally:
        config.write(node)
    assert report["config"]["host"] == "name"
    _check(node, json.dumps(report))


@pytest.mark.parametrize("name", ["node.toml", "policy.toml"])
def test_a_file_whose_error_would_quote_it(node: Path, name: str) -> None:
    path = node / name
    before = path.read_bytes()
    for nonsense in (f"{MARK} = [", f'{MARK} = "{TITLE}"\n', f'[member]\nmember_id = "{MARK}"\n'):
        path.write_text(nonsense)
        report = bug_report(node, examine(node, offline=True), SystemClock().now())
        _check_marks_only(json.dumps(report))
    path.write_bytes(before)


def _check_marks_only(text: str) -> None:
    assert MARK not in text.lower()
    assert TITLE not in text


def test_the_doctors_texts_are_not_passed_on(node: Path) -> None:
    loud = Report((Check("disk", Status.FAIL, "storage", TITLE, HOST),))
    report = bug_report(node, loud, SystemClock().now())
    assert report["checks"] == [{"name": "disk", "status": "fail", "code": "storage"}]
    _check_marks_only(json.dumps(report))


def test_unusual_machines_and_versions_are_not_named(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bugreport.platform, "system", lambda: MARK)
    monkeypatch.setattr(bugreport.platform, "machine", lambda: MARK)
    monkeypatch.setenv("TOUCHSTONE_COORDINATOR__HOST", HOST)
    monkeypatch.setenv(MARK, MARK)
    assert MARK in os.environ
    report = bug_report(node, Report(()), SystemClock().now())
    assert (report["system"]["system"], report["system"]["machine"]) == ("other", "other")
    _check_marks_only(json.dumps(report))


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bugreport, "LOG_TAIL_BYTES", 1000)
    line = json.dumps({"level": "warning", "code": "network"}) + "\n"
    (tmp_path / "node.log").write_text(line * 1000)
    counted = log_summary(tmp_path / "node.log")["codes"]["network"]
    assert counted == 1000 // len(line)
    assert log_summary(tmp_path / "none.log") == {"levels": {}, "codes": {}}


def test_doctor_exits_with_10_and_shows_no_listing(node: Path) -> None:
    for options in ([], ["--json"]):
        result = CliRunner().invoke(app, ["doctor", "--offline", "--dir", str(node), *options])
        assert result.exit_code == Exit.DOCTOR
        assert TITLE not in result.output
        assert "PRIVATE" not in result.output
    data = json.loads(result.stdout)["data"]
    assert data["healthy"] is False
    assert data["counts"]["fail"] >= 1
    assert {"name", "status", "code", "text", "hint"} == set(data["checks"][0])


def test_doctor_exits_with_0_when_nothing_fails(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, ["a"])
    with serving(alliance):
        result = CliRunner().invoke(app, ["doctor", "--dir", str(alliance.dir_of("a"))])
    assert result.exit_code == 0, result.output
    assert "admitted as member 1" in result.stdout


def test_json_is_an_option_like_everywhere(node: Path, tmp_path: Path) -> None:
    command = ["bugreport", "--offline", "--json", "--dir", str(node)]
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout)["data"]["schema_version"] == 1
    out = tmp_path / "report.json"
    written = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert json.loads(written.stdout) == {
        "schema_version": 1,
        "status": "ok",
        "data": {"written": str(out)},
    }
    assert json.loads(out.read_bytes())["schema_version"] == 1


def test_out_writes_a_file_for_its_owner_only(node: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = ["bugreport", "--offline", "--dir", str(node), "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text())["schema_version"] == 1
    _check(node, out.read_text())
