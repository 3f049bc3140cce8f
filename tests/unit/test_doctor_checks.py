"""Each of `doctor`'s checks of the machine and the folder: what passes and what does not."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from participant.contract import service as contract
from participant.contract.report import Finding, Part
from participant.contract.rules import RULES
from participant.doctor import certificates, folder, records
from participant.doctor.service import examine
from participant.node.daemon import LOCK_FILE
from participant.node.keystore import KeyStore
from participant.node.peers import Peers, fingerprint
from participant.node.vault import Vault
from participant.privacy.accounting import Charge, gaussian
from participant.store import Store
from shared.clock import FixedClock, SystemClock
from shared.doctor import installation, places
from shared.doctor.report import Check, Report, Status, attempt, fail, ok, warn
from shared.errors import NotFound
from shared.files import storage_error
from shared.locks import process_lock
from shared.trust.roster import Roster, RosterEntry
from tests.support.alliance import Alliance, found_alliance
from tests.support.contract import sound, store_of
from tests.support.deployment import knowing, served_member

SPENT = (Status.FAIL, "budget_spent")


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("alliance"), ["a", "b"])


@pytest.fixture
def node(alliance: Alliance, tmp_path: Path) -> Path:
    target = shutil.copytree(alliance.dir_of("a"), tmp_path / "node")
    target.chmod(0o700)
    return target


def now() -> datetime:
    """Return the time of the call: a certificate begins five minutes before its founding."""
    return SystemClock().now()


def content(folder: Path) -> dict[Path, bytes]:
    """Return every file below a folder but what SQLite makes to read a database."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if not path.name.endswith(("-wal", "-shm"))}


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def result(check: Check) -> tuple[Status, str]:
    return check.status, check.code


class TestAttempt:
    """An error inside a check is a finding and hides nothing."""

    def test_what_was_found_before_the_error_stays(self) -> None:
        def examined() -> Iterator[Check]:
            yield ok("first", "fine")
            raise NotFound("gone", hint="look elsewhere")

        first, second = attempt("second", examined)
        assert (first.name, result(second)) == ("first", (Status.FAIL, "not_found"))
        assert (second.text, second.hint) == ("gone", "look elsewhere")

    @pytest.mark.parametrize(
        ("error", "code", "text"),
        [
            (OSError(errno.EACCES, "Permission denied", "/a"), "os_error", "Permission denied: /a"),
            (ZeroDivisionError("secret"), "unexpected", "ZeroDivisionError"),
        ],
    )
    def test_errors_of_others(self, error: Exception, code: str, text: str) -> None:
        def broken() -> Check:
            raise error

        (check,) = attempt("x", broken)
        assert result(check) == (Status.FAIL, code)
        assert text in check.text
        assert "secret" not in check.text

    def test_one_failure_makes_a_report_unhealthy_and_a_warning_does_not(self) -> None:
        assert Report((ok("a", ""), warn("b", "c", ""))).healthy
        report = Report((ok("a", ""), fail("b", "c", "")))
        assert not report.healthy
        assert report.summary() == ["1 ok", "1 fail"]


class TestInstallation:
    def test_this_environment_fits(self) -> None:
        assert result(installation.check_python()) == (Status.OK, "ok")
        assert {check.status for check in installation.check_packages("participant")} == {Status.OK}
        assert {"torch", "flwr", "polars"} <= {
            one.name for one in installation.libraries("participant")
        }

    @pytest.mark.parametrize(
        ("line", "state"),
        [("flwr>=99", "flwr is 1."), ("no-such-library>=1", "no-such-library is missing")],
    )
    def test_what_is_out_of_range_or_missing(
        self, monkeypatch: pytest.MonkeyPatch, line: str, state: str
    ) -> None:
        monkeypatch.setattr(installation, "requires", lambda _name: ["numpy>=2", line])
        (check,) = installation.check_packages("participant")
        assert result(check) == (Status.FAIL, "package_version")
        assert check.text.startswith(state)

    def test_another_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation.platform, "python_version", lambda: "3.10.1")
        assert result(installation.check_python()) == (Status.FAIL, "python_version")

    def test_flower_that_may_call_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert result(installation.check_flower()) == (Status.OK, "ok")
        with monkeypatch.context() as patched:
            patched.setenv("FLWR_DISABLE_UPDATE_CHECK", "0")
            assert result(installation.check_flower()) == (Status.FAIL, "flower_telemetry")
        from flwr.supercore import telemetry

        monkeypatch.setattr(telemetry, "FLWR_TELEMETRY_ENABLED", "1")
        check = installation.check_flower()
        assert result(check) == (Status.FAIL, "flower_telemetry")
        assert "FLWR_TELEMETRY_ENABLED" in check.text


class TestFolder:
    def test_a_policy_that_refuses_everything_is_worth_a_word(self, node: Path) -> None:
        assert result(folder.check_policy(node)) == (Status.WARN, "policy_refuses_all")
        (node / "policy.toml").write_text('allowed_purposes = ["x"]\n')
        assert result(folder.check_policy(node)) == (Status.OK, "ok")

    def test_peers(self, node: Path) -> None:
        assert result(folder.check_peers(node)) == (Status.WARN, "no_roster")
        roster = Roster(
            bytes(16), 1, tuple(RosterEntry(i, f"m{i}", bytes([i] * 32)) for i in (1, 2, 3))
        )
        peers = Peers(node)
        peers.accept(roster, own_index=1, own_key=bytes([1] * 32))
        assert result(folder.check_peers(node)) == (Status.WARN, "too_few_pinned")
        for entry in roster.entries[1:]:
            peers.pin(entry.member_id, fingerprint(entry.public_key))
        assert result(folder.check_peers(node)) == (Status.OK, "ok")
        (node / "roster.bin").write_bytes(b"nonsense")
        (check,) = attempt("peers", lambda: folder.check_peers(node))
        assert result(check) == (Status.FAIL, "malformed")

    def test_modes(self, node: Path) -> None:
        assert [result(check) for check in folder.check_modes(node)] == [(Status.OK, "ok")]
        KeyStore.of(node).identity_key.chmod(0o640)
        (node / "keys").chmod(0o755)
        found = list(folder.check_modes(node))
        assert {result(check) for check in found} == {(Status.FAIL, "readable_by_others")}
        assert sorted(check.text.split()[0] for check in found) == [
            "keys",
            "keys/identity.key.pem",
        ]

    def test_another_owner(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(places.os, "geteuid", lambda: 4711)
        assert [result(c) for c in folder.check_modes(node)] == [(Status.WARN, "another_owner")]

    def test_the_process_is_known_by_its_lock(self, node: Path) -> None:
        assert folder.check_process(node).code == "not_running"
        with process_lock(node / LOCK_FILE, "a node"):
            running = folder.check_process(node)
            assert running.status is Status.OK
        assert folder.check_process(node).code == "not_running"

    def test_secrets_of_another_boot(self, node: Path) -> None:
        vault = Vault(node / "secsum", binding=b"an earlier boot")
        assert folder.check_secrets(node).status is Status.OK
        vault.save(bytes(16), b"guard", b"session")
        vault.close()
        assert result(folder.check_secrets(node)) == (Status.WARN, "secrets_of_another_boot")
        Vault(node / "secsum").close()  # as the node does when it starts
        assert folder.check_secrets(node).status is Status.OK

    @pytest.mark.parametrize(
        ("free", "found"),
        [
            (places.LEAST_FREE - 1, (Status.FAIL, "disk_nearly_full")),
            (places.LEAST_FREE, (Status.WARN, "disk_small")),
            (2**40, (Status.OK, "ok")),
        ],
    )
    def test_room(
        self,
        node: Path,
        monkeypatch: pytest.MonkeyPatch,
        free: int,
        found: tuple[Status, str],
    ) -> None:
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(places.shutil, "disk_usage", lambda _path: usage(free))
        monkeypatch.setattr(places, "stored_bytes", lambda _path: places.LEAST_FREE + 1)
        assert result(places.check_disk(node)) == found
        assert not (node / ".doctor").exists()

    def test_a_read_only_disk(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *_arguments: object, **_options: object) -> None:
            raise storage_error(OSError(errno.EROFS, "Read-only file system"), path)

        monkeypatch.setattr(places, "write_atomic", refuse)
        (check,) = attempt("disk", lambda: places.check_disk(node))
        assert result(check) == (Status.FAIL, "storage")
        assert "read-only" in check.text

    def test_all_files_count(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "c").write_bytes(bytes(1000))
        (tmp_path / "d").write_bytes(bytes(24))
        assert places.stored_bytes(tmp_path) == 1024


class TestCertificates:
    @pytest.mark.parametrize(
        ("days", "found"),
        [
            (0, (Status.OK, "ok")),
            (825 - 29, (Status.WARN, "expires_soon")),
            (826, (Status.FAIL, "expired")),
            (-2, (Status.FAIL, "not_valid_yet")),
        ],
    )
    def test_how_long_they_last(self, node: Path, days: int, found: tuple[Status, str]) -> None:
        at = now() + timedelta(days=days)
        checks = by_name(list(certificates.check_certificates(node, at)))
        assert result(checks["certificate_connection"]) == found
        assert result(checks["certificate_identity"]) == found

    def test_keys_that_do_not_fit(self, node: Path, alliance: Alliance) -> None:
        other = KeyStore.of(alliance.dir_of("b"))
        shutil.copy(other.tls_key, KeyStore.of(node).tls_key)
        found = attempt("certificates", lambda: certificates.check_certificates(node, now()))
        assert result(found[-1]) == (Status.FAIL, "key_unreadable")
        assert found[0].name == "certificate_authority"

    def test_another_members_pair(self, node: Path, alliance: Alliance) -> None:
        other = KeyStore.of(alliance.dir_of("b"))
        for name in ("tls.pem", "tls.key.pem", "identity.pem", "identity.key.pem"):
            shutil.copy(other.folder / name, node / "keys" / name)
        checks = by_name(list(certificates.check_certificates(node, now())))
        assert checks["certificate_connection"].code == "another_member"
        assert checks["certificate_identity"].code == "another_member"

    def test_another_identity_key(self, node: Path, alliance: Alliance) -> None:
        shutil.copy(KeyStore.of(alliance.dir_of("b")).identity_key, node / "keys")
        found = attempt("certificates", lambda: certificates.check_certificates(node, now()))
        assert result(found[-1]) == (Status.FAIL, "certificate_refused")


class TestRecords:
    @pytest.fixture
    def stored(self, node: Path) -> Path:
        store = store_of(sound(), node)
        store.audit.append("data.imported", {"rows": 1})
        store.close()
        return node

    def test_nothing_imported_yet(self, node: Path) -> None:
        found = by_name(list(records.check_records(node, SystemClock())))
        assert result(found["database"]) == (Status.WARN, "no_records")
        assert {found[name].status for name in ("audit", "data", "budget")} == {Status.SKIPPED}

    def test_a_sound_store(self, stored: Path) -> None:
        clock = FixedClock(now())
        found = by_name(list(records.check_records(stored, clock)))
        assert {name: found[name].status for name in ("database", "audit")} == {
            "database": Status.OK,
            "audit": Status.OK,
        }
        assert found["data"].status in (Status.OK, Status.WARN), found["data"].text

    def test_records_that_may_not_train(
        self, stored: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store.open(stored)
        report = contract.check_records(store, "listings")
        store.close()
        part = one_failure(report)
        monkeypatch.setattr(records, "contract_of", lambda _store, _table, keep: part)
        check = records.check_contract(stored, FixedClock(now()))
        assert result(check) == (Status.FAIL, "data_contract")
        assert not any(character.isdigit() for character in check.text)  # codes, no counts

    def test_a_damaged_database_is_not_opened(self, stored: Path) -> None:
        path = stored / records.DATABASE
        for side in path.parent.glob("touchstone.db-*"):
            side.unlink()
        data = bytearray(path.read_bytes())
        data[100:4096] = bytes(3996)
        path.write_bytes(data)
        found = by_name(list(records.check_records(stored, SystemClock())))
        assert result(found["database"]) == (Status.FAIL, "storage")
        assert found["audit"].status is Status.SKIPPED

    @pytest.mark.parametrize(
        ("version", "found"),
        [("0000", (Status.WARN, "schema_old")), ("9999", (Status.FAIL, "config"))],
    )
    def test_another_schema_is_left_alone(
        self, stored: Path, version: str, found: tuple[Status, str]
    ) -> None:
        with sqlite3.connect(stored / records.DATABASE) as raw:
            raw.execute("update alembic_version set version_num = ?", (version,))
        checks = by_name(list(records.check_records(stored, SystemClock())))
        assert result(checks["database"]) == found
        assert checks["data"].status is Status.SKIPPED
        with sqlite3.connect(stored / records.DATABASE) as raw:
            assert raw.execute("select version_num from alembic_version").fetchone() == (version,)

    def test_records_that_are_not_as_they_were_written(
        self, stored: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = FixedClock(now())
        for deep in (False, True):
            found = by_name(list(records.check_records(stored, clock, deep=deep)))
            assert result(found["segments"]) == (Status.OK, "ok")
            assert not found["segments"].hint
        monkeypatch.setattr(records, "SEGMENTS_S", 0.0)
        bounded = by_name(list(records.check_records(stored, clock)))["segments"]
        assert "--deep" in bounded.hint
        segment = next(stored.rglob("*.parquet"))
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        assert by_name(list(records.check_records(stored, clock)))["segments"] == bounded
        deep_one = by_name(list(records.check_records(stored, clock, deep=True)))["segments"]
        monkeypatch.setattr(records, "SEGMENTS_S", 10.0)
        timely = by_name(list(records.check_records(stored, clock)))["segments"]
        for check in (deep_one, timely):
            assert result(check) == (Status.FAIL, "storage")
            assert f"{segment.parent.name}/{segment.name} is damaged" in check.text

    def test_an_examination_leaves_the_folder_as_it_was(self, stored: Path) -> None:
        (stored / "store" / "contract-listings.json").unlink(missing_ok=True)
        before = content(stored)
        checks = {check.name: check for check in examine(stored, offline=True).checks}
        assert checks["data"].status in (Status.OK, Status.WARN)
        after = content(stored)
        assert after.keys() == before.keys()
        assert after == before

    def test_releases_since_the_model_that_runs(self, stored: Path) -> None:
        store = Store.open(stored)

        def found(*events: tuple[str, dict[str, str]]) -> tuple[Status, str]:
            for kind, body in events:
                store.audit.append(f"model.{kind}", body)
            return result(records.check_releases(stored, FixedClock(now())))

        assert found() == (Status.OK, "ok")
        assert found(("keep", {"reason": "not_better"})) == (Status.OK, "release_kept")
        refused = found(("refused", {"code": "bundle_digest"}))
        assert refused == (Status.WARN, "release_refused")
        assert found(("activate", {"reason": "better"})) == (Status.OK, "ok")
        assert found(("keep", {"reason": "pinned"})) == (Status.OK, "release_kept")
        assert "pinned" in records.check_releases(stored, FixedClock(now())).text
        assert found(("rollback", {"reason": "operator"})) == (Status.OK, "ok")
        store.close()

    def test_an_altered_audit_log(self, stored: Path) -> None:
        with sqlite3.connect(stored / records.DATABASE) as raw:
            for (name,) in raw.execute("select name from sqlite_master where type = 'trigger'"):
                raw.execute(f"drop trigger {name}")
            raw.execute("update audit_event set body = '{\"rows\":2}'")
        found = by_name(list(records.check_records(stored, SystemClock())))
        assert result(found["audit"]) == (Status.FAIL, "verification")
        assert found["data"].status is not Status.SKIPPED

    @pytest.mark.parametrize(
        ("amount", "found"),
        [(1.0, (Status.OK, "ok")), (9.5, (Status.WARN, "budget_low")), (10.0, SPENT)],
    )
    def test_what_is_left_of_the_budget(
        self, stored: Path, amount: float, found: tuple[Status, str]
    ) -> None:
        (stored / "policy.toml").write_text(
            "evaluation_epsilon_budget = 10.0\nprivacy_budget = 100.0\n"
        )
        store = Store.open(stored)
        store.ledger.charge("aa", 1, "s1", "evaluation", Charge("laplace", amount))
        store.close()
        check = records.check_budget(stored, FixedClock(now()))
        assert result(check) == found
        assert f"{amount:.2f} of 10 spent (evaluation_epsilon_budget)" in check.text

    def test_a_training_budget_that_is_spent(self, stored: Path) -> None:
        (stored / "policy.toml").write_text("privacy_budget = 0.0\n")
        assert result(records.check_budget(stored, FixedClock(now()))) == (Status.OK, "ok")
        (stored / "policy.toml").write_text("privacy_budget = 1.0\n")
        assert result(records.check_budget(stored, FixedClock(now()))) == (Status.OK, "ok")
        store = Store.open(stored)
        store.ledger.charge("aa", 1, "s1", "training", gaussian([0.5]))
        store.close()
        assert result(records.check_budget(stored, FixedClock(now()))) == SPENT

    def test_a_model_that_no_longer_loads(self, node: Path) -> None:
        assert result(records.check_model(node)) == (Status.WARN, "no_model")
        (node / "models").mkdir()
        (node / "models" / "active.json").write_text("{")
        (check,) = attempt("model", lambda: records.check_model(node))
        assert check.status is Status.FAIL
        assert "active.json" in check.text

    def test_a_model_that_verifies_and_one_with_a_flipped_bit(self, tmp_path: Path) -> None:
        with served_member(tmp_path) as member:
            release = member.publish(1, knowing())
            member.deploy(release)
            check = records.check_model(member.folder)
            assert result(check) == (Status.OK, "ok")
            assert check.text == f"{release.hex()[:12]} verifies, for listing"
            bundle = next(member.folder.rglob("*.bundle"))
            data = bytearray(bundle.read_bytes())
            data[-1] ^= 1
            bundle.write_bytes(data)
            (flipped,) = attempt("model", lambda: records.check_model(member.folder))
            assert result(flipped) == (Status.FAIL, "bundle_digest")
            assert "rollback" in flipped.hint


def one_failure(report: contract.ContractReport) -> contract.ContractReport:
    code = next(code for code, rule in RULES.items() if rule.level == "fail")
    bad = Finding(code=code, level="fail", count=3, of=7)
    return report.model_copy(update={"parts": {"schema": Part(figures={}, findings=(bad,))}})


class TestExamine:
    def test_everything_is_looked_at_even_in_an_empty_folder(self, tmp_path: Path) -> None:
        report = examine(tmp_path, offline=True)
        names = {check.name for check in report.checks}
        assert {"python", "config", "policy", "certificates", "disk", "model", "clock"} <= names
        assert not report.healthy
        codes = {check.name: check.code for check in report.checks}
        assert (codes["config"], codes["policy"]) == ("state", "config")

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        report = examine(tmp_path / "nowhere", offline=True)
        checks = by_name(list(report.checks))
        assert result(checks["folder"]) == (Status.FAIL, "no_folder")
        assert str(tmp_path / "nowhere") in checks["folder"].text
        assert report.count(Status.FAIL) == 1
        assert {checks[name].status for name in ("modes", "disk", "model")} == {Status.SKIPPED}
        assert not (tmp_path / "nowhere").exists()

    def test_a_folder_that_never_joined_lacks_no_backup(self, tmp_path: Path) -> None:
        report = examine(tmp_path, offline=True)
        assert "backup" not in report.text()
        assert "join with your token" in by_name(list(report.checks))["certificates"].hint

    def test_one_broken_check_hides_no_other(
        self, node: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = [check.name for check in examine(node, offline=True).checks]

        def broken(*_arguments: object) -> Check:
            raise RuntimeError("a bug")

        for module, name in ((places, "check_disk"), (installation, "check_python")):
            monkeypatch.setattr(module, name, broken)
        report = examine(node, offline=True)
        assert [check.name for check in report.checks] == whole
        assert report.count(Status.FAIL) == 2

    def test_another_config_error_is_told_once_and_the_rest_goes_on(self, node: Path) -> None:
        (node / "node.toml").write_text("nonsense = [")
        report = examine(node, offline=True)
        assert {"config", "certificates"} <= {
            check.name for check in report.checks if check.status is Status.FAIL
        }
        assert any(check.name == "disk" and check.status is Status.OK for check in report.checks)
