"""Renewing certificates: over real TLS, with lost replies, full disks and a second process."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import coordinator.cli.main as coordinator_cli
import participant.cli.main as participant_cli
from coordinator.db import Database
from coordinator.enrolment import server_certificate
from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.server_certificate import renew_server, renew_server_if_due
from coordinator.enrolment.service import invite
from participant.node import renewal, upkeep
from participant.node.join import join
from participant.node.keystore import KeyStore, connection_pair, identity_key
from participant.node.membership_client import membership
from participant.node.probe import tls_context
from participant.node.renewal import over_grpc, renew, renew_if_due
from participant.node.upkeep import NewestCredentials, Upkeep
from participant.store import Store
from shared.clock import FixedClock, SystemClock, rfc3339
from shared.errors import AuthError, NetworkError, StorageError, VerificationError
from shared.locks import AlreadyRunning, process_lock
from shared.trust.certificates import fingerprint, load_certificate, renewal_due
from shared.trust.keys import public_hex
from shared.trust.renewal import RenewalGrant, RenewalRequest
from tests.support.alliance import Alliance, in_process, serving, whoami
from tests.support.renewal import AGE, directly, old_alliance, renewals


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    return old_alliance(tmp_path)


def _coordinator_kinds(db: Database) -> list[str]:
    return [event.kind for event in db.read("events", lambda unit: list(unit.audit.events()))]


def _member_events(folder: Path) -> list[dict[str, object]]:
    store = Store.open(folder)
    try:
        return [e.body for e in store.audit.events() if e.kind == "certificate.renewed"]
    finally:
        store.close()


def _keys(folder: Path) -> list[Path]:
    return KeyStore.of(folder).tls_keys()


def test_a_certificate_in_its_last_third_is_renewed_over_the_network(alliance: Alliance) -> None:
    folder = alliance.dir_of("a")
    before, signing = connection_pair(folder), public_hex(identity_key(folder))
    with serving(alliance) as db:
        assert renew_if_due(folder, over_grpc(folder))
        after = connection_pair(folder)
        assert whoami(folder, alliance.authority) == "a:1"
        kinds = _coordinator_kinds(db)
        member = db.read("member", lambda unit: unit.members.get("a"))
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == len(kinds)
        assert not renew_if_due(folder, over_grpc(folder))
    assert after.key.public_key() != before.key.public_key()
    assert after.certificate.not_valid_after_utc - SystemClock().now() > timedelta(days=800)
    assert kinds[-2:] == ["member.certificate_issued", "member.certificate_replaced"]
    assert member.tls_fingerprint == fingerprint(after.certificate)
    identity = KeyStore.of(folder).identity.read_bytes()
    assert member.identity_certificate.encode() == identity
    assert not renewal_due(load_certificate(identity), SystemClock().now())
    assert public_hex(identity_key(folder)) == signing == member.public_key
    assert _keys(folder) == [after.key_path]
    assert after.key_path.stat().st_mode & 0o777 == 0o600
    assert [body["tls_fingerprint"] for body in _member_events(folder)] == [
        fingerprint(after.certificate)
    ]


def test_a_young_certificate_is_left_alone(tmp_path: Path) -> None:
    alliance = old_alliance(tmp_path)
    folder, young = alliance.dir_of("a"), FixedClock(SystemClock().now() - timedelta(days=400))

    def never(_request: RenewalRequest) -> RenewalGrant:
        raise AssertionError("nothing was due")

    assert not renew_if_due(folder, never, clock=young)


def test_the_old_pair_is_good_until_the_new_one_is_used_and_not_after(alliance: Alliance) -> None:
    folder, db = alliance.dir_of("a"), alliance.database()
    service, old = renewals(alliance, db), connection_pair(folder).pem
    renew(folder, directly(service, folder))
    assert service.admit(old).index == 1
    assert service.admit(connection_pair(folder).pem).index == 1
    with pytest.raises(AuthError, match="not the member's current one"):
        service.admit(old)
    db.close()


def test_lost_and_overtaken_replies_leave_no_member_outside(alliance: Alliance) -> None:
    """Whichever of the certificates issued meanwhile the node ends up with, it is let in."""
    folder, db = alliance.dir_of("a"), alliance.database()
    service, granted = renewals(alliance, db), []

    def lossy(request: RenewalRequest) -> RenewalGrant:
        granted.append(directly(service, folder)(request))
        raise NetworkError("the reply was lost")

    def overtaken(request: RenewalRequest) -> RenewalGrant:
        grant = directly(service, folder)(request)
        with pytest.raises(NetworkError):
            renewal._renew(folder, lossy, SystemClock())
        return grant

    with pytest.raises(NetworkError):
        renew(folder, lossy)
    renew(folder, overtaken)
    assert len(granted) == 2
    assert service.admit(connection_pair(folder).pem).index == 1
    with pytest.raises(AuthError):  # the other renewals ended with the first use of one
        service.admit(granted[1].tls_certificate)
    db.close()


@pytest.mark.parametrize("point", ["write_key", "identity", "tls"])
def test_a_full_disk_leaves_the_old_pair_in_force(
    alliance: Alliance, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    folder, db = alliance.dir_of("a"), alliance.database()
    service, before = renewals(alliance, db), connection_pair(folder)

    def full(*_arguments: object, **_options: object) -> None:
        raise StorageError("the disk is full")

    write = renewal.write_atomic
    if point == "write_key":
        monkeypatch.setattr(renewal, "write_key", full)
    else:
        monkeypatch.setattr(
            renewal,
            "write_atomic",
            lambda path, data: full() if path.stem == point else write(path, data),
        )
    with pytest.raises(StorageError):
        renew(folder, directly(service, folder))
    monkeypatch.undo()
    assert connection_pair(folder) == before
    assert renew_if_due(folder, directly(service, folder))
    assert _keys(folder) == [connection_pair(folder).key_path]
    assert len(_member_events(folder)) == 1
    db.close()


def test_encrypted_keys_stay_encrypted(tmp_path: Path) -> None:
    alliance, secret = old_alliance(tmp_path, []), tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    past = FixedClock(SystemClock().now() - AGE)
    db, folder = alliance.database(past), tmp_path / "member"
    invitation = invite(alliance.coordinator_dir, db, "m")
    exchange = in_process(Enrolment.open(alliance.coordinator_dir, db))
    join(folder, invitation, exchange, passphrase_file=secret, clock=past)
    db.close()
    with serving(alliance):
        assert renew_if_due(folder, over_grpc(folder))
        assert whoami(folder, alliance.authority) == "m:1"
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in connection_pair(folder).key_path.read_bytes()


def test_only_one_process_renews(alliance: Alliance) -> None:
    folder = alliance.dir_of("a")
    with (
        process_lock(KeyStore.of(folder).folder / renewal.LOCK_FILE, "a renewal"),
        pytest.raises(AlreadyRunning),
    ):
        renew(folder, over_grpc(folder))


@pytest.mark.parametrize("cheat", ["other member", "other key", "other authority"])
def test_an_answer_that_does_not_fit_changes_nothing(
    alliance: Alliance, tmp_path: Path, cheat: str
) -> None:
    folder, db = alliance.dir_of("a"), alliance.database()
    service, before = renewals(alliance, db), connection_pair(folder)
    foreign = old_alliance(tmp_path / "foreign")
    theirs = {
        "other member": KeyStore.of(alliance.dir_of("b")),
        "other key": KeyStore.of(folder),
        "other authority": KeyStore.of(foreign.dir_of("a")),
    }[cheat]

    def cheating(request: RenewalRequest) -> RenewalGrant:
        grant = directly(service, folder)(request)
        return RenewalGrant(theirs.tls.read_bytes(), grant.identity_certificate)

    with pytest.raises((VerificationError, AuthError)):
        renew(folder, cheating)
    assert connection_pair(folder) == before
    db.close()


@pytest.mark.parametrize("trouble", [NetworkError("nobody serves"), RuntimeError("a bug")])
def test_upkeep_outlives_trouble_renews_reconnects_and_waits(
    alliance: Alliance, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Time is counted, not waited for: trouble, a retry, a renewal, a quiet look."""
    folder, db = alliance.dir_of("a"), alliance.database()
    service, credentials = renewals(alliance, db), NewestCredentials(folder)
    slept: list[float] = []
    reconnects: list[bool] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise Enough

    def exchange(request: RenewalRequest) -> RenewalGrant:
        if not slept:
            raise trouble
        return directly(service, folder)(request)

    def reconnect() -> None:
        reconnects.append(credentials() is not None)

    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    with pytest.raises(Enough):
        asyncio.run(Upkeep(folder, credentials, reconnect, exchange=exchange).run())
    assert slept == [upkeep.RETRY_S, upkeep.CHECK_S, upkeep.CHECK_S]
    assert reconnects == [True]
    db.close()


class TestTheServersOwn:
    """The coordinator's certificate: renewed when due, taken up by running servers."""

    def test_it_is_taken_up_without_a_restart_and_members_go_on(self, alliance: Alliance) -> None:
        folder = alliance.dir_of("a")
        with serving(alliance) as db:
            before = _presented(folder, alliance)
            assert renew_server_if_due(alliance.coordinator_dir, db)
            assert not renew_server_if_due(alliance.coordinator_dir, db)
            after = _presented(folder, alliance)
            assert after.serial_number != before.serial_number
            assert after.public_key() == before.public_key()
            assert after.not_valid_after_utc > before.not_valid_after_utc
            assert whoami(folder, alliance.authority) == "a:1"
            assert _coordinator_kinds(db)[-1] == "server.certificate_renewed"

    def test_a_damaged_file_leaves_the_running_server_with_the_old_one(
        self, alliance: Alliance
    ) -> None:
        folder = alliance.dir_of("a")
        with serving(alliance) as db:
            before = _presented(folder, alliance)
            (alliance.coordinator_dir / "keys" / "server.key.pem").rename(
                alliance.coordinator_dir / "keys" / "away"
            )
            (alliance.coordinator_dir / "keys" / "server.pem").touch()
            assert _presented(folder, alliance) == before
            (alliance.coordinator_dir / "keys" / "away").rename(
                alliance.coordinator_dir / "keys" / "server.key.pem"
            )
            renew_server(alliance.coordinator_dir, db)
            assert _presented(folder, alliance) != before

    @pytest.mark.parametrize("trouble", [StorageError("the disk is full"), RuntimeError("a bug")])
    def test_a_serving_coordinator_looks_again_and_outlives_trouble(
        self, alliance: Alliance, monkeypatch: pytest.MonkeyPatch, trouble: Exception
    ) -> None:
        db, slept = alliance.database(), []
        looked: list[bool] = []

        class Enough(Exception):
            pass

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                raise Enough

        def look(state_dir: Path, database: Database) -> bool:
            looked.append(True)
            if len(looked) == 1:
                raise trouble
            return renew_server_if_due(state_dir, database)

        monkeypatch.setattr(server_certificate.asyncio, "sleep", sleep)
        monkeypatch.setattr(server_certificate, "renew_server_if_due", look)
        with pytest.raises(Enough):
            asyncio.run(server_certificate.keep_server_certificate(alliance.coordinator_dir, db))
        assert slept == [server_certificate.CHECK_S] * 3
        assert _coordinator_kinds(db)[-1] == "server.certificate_renewed"
        db.close()


def _presented(member_dir: Path, alliance: Alliance):
    """Return the certificate that the members' port shows."""
    import socket

    with (
        socket.create_connection((alliance.host, alliance.port), 20) as plain,
        tls_context(member_dir).wrap_socket(plain, server_hostname=alliance.host) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return load_certificate(ssl.DER_cert_to_PEM_cert(der).encode())


class TestCommands:
    def test_show_and_renew(self, alliance: Alliance) -> None:
        folder = str(alliance.dir_of("a"))
        member, operator = participant_cli.app, coordinator_cli.app
        shown = CliRunner().invoke(member, ["cert", "show", "--dir", folder])
        assert shown.stdout.count("renewal is due") == 2
        with serving(alliance):
            renewed = CliRunner().invoke(member, ["cert", "renew", "--dir", folder, "--json"])
            with membership(alliance.dir_of("a")) as client:
                assert client.check().member_id == "a"
        assert renewed.exit_code == 0
        assert '"renewal_due": true' not in renewed.stdout
        state = str(alliance.coordinator_dir)
        listed = CliRunner().invoke(operator, ["member", "list", "--dir", state, "--json"])
        rows = json.loads(listed.stdout)["data"]["members"]
        until = connection_pair(alliance.dir_of("a")).certificate.not_valid_after_utc
        assert rows[0]["certificate_until"] == rfc3339(until) > rows[1]["certificate_until"]
        shown = CliRunner().invoke(operator, ["cert", "show", "--dir", state])
        assert "renewal is due" in shown.stdout
        renewed = CliRunner().invoke(operator, ["cert", "renew", "--dir", state])
        assert "renewal is due" not in renewed.stdout
        assert "server" in renewed.stdout
