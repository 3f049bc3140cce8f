"""`doctor` on the way to the coordinator: every stage fails with its own cause."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.service import revoke
from participant.doctor import network
from participant.doctor.network import STAGES, check_network, network_skipped
from participant.node.config import NodeConfig
from participant.node.renewal import over_grpc, renew
from shared.clock import FixedClock, SystemClock
from shared.doctor.report import Check, Status
from shared.errors import NetworkError
from tests.support.alliance import Alliance, found_alliance, serving, whoami
from tests.support.fleet import Fleet

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("ours"), ["a", "b", "c"])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("theirs"), ["a"], name="Other alliance")


@pytest.fixture
def folder(ours: Alliance, tmp_path: Path) -> Path:
    return shutil.copytree(ours.dir_of("a"), tmp_path / "node")


def point_at(folder: Path, **coordinator: object) -> None:
    config = NodeConfig.load(folder)
    changed = config.coordinator.model_copy(update=coordinator)
    config.model_copy(update={"coordinator": changed}).write(folder)


def look(folder: Path) -> dict[str, Check]:
    found = {check.name: check for check in check_network(folder, CLOCK)}
    assert list(found) == list(STAGES)
    return found


def expect(folder: Path, stage: str, code: str) -> Check:
    """Check that ``stage`` fails with ``code``, what comes before holds, the rest is not tried."""
    found = look(folder)
    at = STAGES.index(stage)
    assert [found[name].status for name in STAGES[:at]] == [Status.OK] * at
    assert (found[stage].status, found[stage].code) == (Status.FAIL, code), found[stage].text
    assert {found[name].status for name in STAGES[at + 1 :]} <= {Status.SKIPPED}
    assert found[stage].hint
    return found[stage]


def test_all_is_well(ours: Alliance, folder: Path) -> None:
    with serving(ours):
        found = look(folder)
    assert {check.status for check in found.values()} == {Status.OK}
    assert "admitted as member 1" in found["grpc"].text


def test_an_unknown_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    point_at(folder, host="coordinator.example")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "coordinator.example" in expect(folder, "dns", "dns_unknown").text


def test_nobody_listens(folder: Path) -> None:
    expect(folder, "tcp", "tcp_refused")


@pytest.mark.parametrize(
    ("error", "code"),
    [(TimeoutError(), "tcp_timeout"), (OSError(101, "Network is unreachable"), "tcp_unreachable")],
)
def test_packets_are_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, code: str
) -> None:
    def lost(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", lost)
    expect(folder, "tcp", code)


def test_another_alliances_coordinator(theirs: Alliance, folder: Path) -> None:
    point_at(folder, port=theirs.port)
    with serving(theirs):
        expect(folder, "tls", "tls_wrong_authority")


def test_a_coordinator_by_another_name(ours: Alliance, folder: Path) -> None:
    point_at(folder, host="127.0.0.2")
    with serving(ours):
        expect(folder, "tls", "tls_wrong_name")


def test_a_coordinator_whose_certificate_has_expired(tmp_path: Path) -> None:
    long_ago = FixedClock(SystemClock().now() - timedelta(days=900))
    old = found_alliance(tmp_path, ["a"], clock=long_ago)
    with serving(old):
        expect(old.dir_of("a"), "tls", "tls_out_of_date")


@contextmanager
def something_else() -> Iterator[int]:
    """Listen, and answer everybody with a line of text."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_something_that_is_no_coordinator(folder: Path) -> None:
    with something_else() as port:
        point_at(folder, port=port)
        expect(folder, "tls", "tls_failed")


def test_the_enrolment_port_taken_for_the_members_one(ours: Alliance, folder: Path) -> None:
    point_at(folder, port=ours.enrolment_port)
    with serving(ours):
        expect(folder, "grpc", "network")


def test_a_revoked_member(ours: Alliance) -> None:
    with serving(ours) as db:
        revoke(db, "b")
        check = expect(ours.dir_of("b"), "grpc", "member_revoked")
    assert "'b' has been revoked" in check.text


def test_a_certificate_of_another_alliance(ours: Alliance, theirs: Alliance, folder: Path) -> None:
    for name in ("tls.pem", "tls.key.pem"):
        shutil.copy(theirs.dir_of("a") / "keys" / name, folder / "keys" / name)
    with serving(ours):
        expect(folder, "grpc", "certificate_refused")


def test_keys_from_a_backup_older_than_the_last_renewal(ours: Alliance, tmp_path: Path) -> None:
    member = ours.dir_of("c")
    backup = shutil.copytree(member, tmp_path / "backup")
    with serving(ours):
        renew(member, over_grpc(member))
        assert whoami(member, ours.authority) == "c:3"
        assert "not the member's current one" in expect(backup, "grpc", "auth").text


def test_another_protocol(ours: Alliance, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PROTOCOL", 99)
    with serving(ours):
        found = look(folder)
    assert (found["grpc"].status, found["grpc"].code) == (Status.FAIL, "protocol")


@pytest.mark.parametrize(
    ("skew", "status"),
    [(0.0, Status.OK), (90.0, Status.WARN), (-90.0, Status.WARN), (400.0, Status.FAIL)],
)
def test_clocks_that_differ(ours: Alliance, folder: Path, skew: float, status: Status) -> None:
    """The coordinator's stands still here, so that only the difference counts."""
    here = FixedClock(SystemClock().now())
    there = FixedClock(here.now() + timedelta(seconds=skew))
    with serving(ours, clock=there):
        (check,) = [one for one in check_network(folder, here) if one.name == "clock"]
    assert check.status is status
    assert f"{abs(skew):.1f} s" in check.text
    assert ("behind" if skew <= 0 else "ahead") in check.text


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with a proxy for everything, which is not there."""
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://user:secret@127.0.0.1:9")


@pytest.mark.usefixtures("proxied")
class TestProxy:
    """Every channel goes to the coordinator directly, whatever the environment says."""

    def test_grpc_by_itself_would_go_by_it(self, ours: Alliance, folder: Path) -> None:
        """Else the tests below would show nothing."""
        with serving(ours), pytest.raises(NetworkError):
            whoami(folder, ours.authority)

    def test_calls(self, ours: Alliance, folder: Path) -> None:
        with serving(ours):
            assert {check.status for check in look(folder).values()} == {Status.OK}

    def test_an_enrolment(self, tmp_path: Path) -> None:
        assert found_alliance(tmp_path, ["a"], network=True).dir_of("a").is_dir()

    def test_the_stream(self) -> None:
        fleet = Fleet(1)
        try:
            fleet.node(1)
            fleet.wait_connected(1)
        finally:
            fleet.close()

    def test_doctor_names_the_variable_and_not_its_value(self, folder: Path) -> None:
        check = network.check_proxy()
        assert (check.status, check.code) == (Status.OK, "proxy")
        assert "grpc_proxy is set, and not used" in check.text
        barred = expect(folder, "tcp", "tcp_refused")
        assert "grpc_proxy is set, but a node cannot go by a proxy" in barred.hint
        assert "secret" not in check.text + barred.hint


def test_a_machine_without_a_proxy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in network.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert network.check_proxy().code == "ok"
    assert "proxy" not in expect(folder, "tcp", "tcp_refused").hint


def test_a_time_that_no_calendar_has(
    ours: Alliance, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alliance.v1 import membership_pb2 as pb

    from coordinator.enrolment.membership import MembershipServicer

    async def lie(_self: object, _request: object, _context: object) -> pb.CheckReply:
        return pb.CheckReply(index=1, member_id="a", unix_ms=2**62, protocol=1)

    monkeypatch.setattr(MembershipServicer, "Check", lie)
    with serving(ours):
        found = check_network(folder, CLOCK)
        (check,) = [one for one in found if one.name == "grpc"]
    assert (check.status, check.code) == (Status.FAIL, "malformed")


def test_offline_touches_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    found = list(network_skipped())
    assert [check.name for check in found] == list(STAGES)
    assert {check.status for check in found} == {Status.SKIPPED}
    assert all("--offline" in check.text for check in found)


def test_a_folder_that_never_joined(tmp_path: Path) -> None:
    found: list[Check] = list(check_network(tmp_path, CLOCK))
    assert (found[0].name, found[0].code) == ("dns", "state")
    assert {check.status for check in found[1:]} == {Status.SKIPPED}
