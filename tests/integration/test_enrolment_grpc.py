"""Joining over real gRPC and TLS, and knocking on the members' port afterwards."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.service import invite, roster
from participant.node.config import NodeConfig
from participant.node.enrolment_client import exchange_over_grpc
from participant.node.join import at_address, join
from participant.node.keystore import KeyStore, identity_key
from shared.errors import StateError, TokenRefused
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import Invitation
from shared.trust.keys import new_identity_key, new_tls_key, public_hex
from shared.trust.requests import make_request
from tests.support.alliance import Alliance, found_alliance, in_process, serving, whoami


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    return found_alliance(tmp_path, [])


def test_members_join_over_the_network_and_are_recognised(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, ["a", "b"], network=True)
    with serving(alliance) as db:
        for index, member_id in enumerate(["a", "b"], start=1):
            folder = alliance.dir_of(member_id)
            assert whoami(folder, alliance.authority) == f"{member_id}:{index}"
            key = roster(db).by_name(member_id).public_key
            assert key == identity_key(folder).public_key().public_bytes_raw()
        assert roster(db).epoch == 2
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 5


def test_what_joining_leaves_behind_is_for_the_owner_only(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, ["a"], network=True)
    for folder in (alliance.coordinator_dir, alliance.dir_of("a")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700
        keys = list((folder / "keys").glob("*.key.pem"))
        assert len(keys) >= 2
        for path in [*keys, *folder.glob("*.toml"), *folder.glob("touchstone.db*")]:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_no_private_key_ever_leaves_the_member(alliance: Alliance, tmp_path: Path) -> None:
    sent: list[EnrolmentRequest] = []
    db = alliance.database()
    service = Enrolment.open(alliance.coordinator_dir, db)

    def watched(invitation: Invitation, request: EnrolmentRequest) -> EnrolmentGrant:
        sent.append(request)
        return service.enrol(request)

    join(tmp_path / "a", invite(alliance.coordinator_dir, db, "a"), watched)
    raw = identity_key(tmp_path / "a").private_bytes_raw()
    (request,) = sent
    for field in (request.tls_request, request.identity_request):
        assert b"PRIVATE" not in field
        assert raw not in field
    db.close()


def test_one_token_many_at_once_makes_one_member(alliance: Alliance) -> None:
    with serving(alliance) as db:
        invitation = invite(alliance.coordinator_dir, db, "a")

        def attempt(_: int) -> str:
            request = EnrolmentRequest(
                invitation.token,
                "a",
                make_request(new_tls_key(), "a"),
                make_request(new_identity_key(), "a"),
            )
            try:
                return exchange_over_grpc(invitation, request).member_id
            except TokenRefused as refusal:
                return refusal.code

        with ThreadPoolExecutor(8) as pool:
            results = sorted(pool.map(attempt, range(16)))
        assert results == ["a"] + ["token_refused"] * 15
        assert [member.index for member in db.read("all", lambda unit: unit.members.all())] == [1]


def test_many_members_at_once_get_distinct_indices(alliance: Alliance, tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    with serving(alliance) as db:
        invitations = {name: invite(alliance.coordinator_dir, db, name) for name in names}

        def attempt(name: str) -> int:
            return join(tmp_path / name, invitations[name], exchange_over_grpc).config.member.index

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(attempt, names)) == list(range(1, 13))
        assert roster(db).epoch == 12
        db.read("verify", lambda unit: unit.audit.verify())


def test_a_lost_reply_is_repeated_for_the_same_keys_only(
    alliance: Alliance, tmp_path: Path
) -> None:
    with serving(alliance) as db:
        invitation = invite(alliance.coordinator_dir, db, "a")

        def loses_the_reply(invitation: Invitation, request: EnrolmentRequest) -> EnrolmentGrant:
            exchange_over_grpc(invitation, request)
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            join(tmp_path / "a", invitation, loses_the_reply)
        assert not (tmp_path / "a" / "node.toml").exists()
        joined = join(tmp_path / "a", invitation, exchange_over_grpc)
        assert joined.fresh
        assert joined.config.member.index == 1
        assert roster(db).epoch == 1
        assert whoami(tmp_path / "a", alliance.authority) == "a:1"
        with pytest.raises(TokenRefused, match="used already"):
            join(tmp_path / "thief", invitation, exchange_over_grpc)


def test_half_of_the_keys_is_not_enough_to_repeat(alliance: Alliance, tmp_path: Path) -> None:
    db = alliance.database()
    service = Enrolment.open(alliance.coordinator_dir, db)
    invitation = invite(alliance.coordinator_dir, db, "a")
    tls, identity = new_tls_key(), new_identity_key()

    def request(tls_key: object, identity_key: object) -> EnrolmentRequest:
        return EnrolmentRequest(
            invitation.token, "", make_request(tls_key, "a"), make_request(identity_key, "a")
        )

    first = service.enrol(request(tls, identity))
    assert service.enrol(request(tls, identity)) == first
    for pair in ((tls, new_identity_key()), (new_tls_key(), identity)):
        with pytest.raises(TokenRefused, match="used already"):
            service.enrol(request(*pair))
    events = db.read("events", lambda unit: unit.audit.events(kind="enrolment.refused"))
    assert [event.body["member_id"] for event in events] == ["a", "a"]
    db.close()


def test_joining_twice_changes_nothing(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, ["a"])
    folder = alliance.dir_of("a")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    db = alliance.database()
    with pytest.raises(StateError, match="already a member"):
        invite(alliance.coordinator_dir, db, "a")
    again = invite(alliance.coordinator_dir, db, "b")
    with pytest.raises(StateError, match="belongs to the member 'a'"):
        join(folder, again, in_process(Enrolment.open(alliance.coordinator_dir, db)))
    db.close()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_joined_folder_says_so_without_asking_the_network(
    alliance: Alliance, tmp_path: Path
) -> None:
    db = alliance.database()
    invitation = invite(alliance.coordinator_dir, db, "a")
    join(tmp_path / "a", invitation, in_process(Enrolment.open(alliance.coordinator_dir, db)))
    db.close()
    result = join(tmp_path / "a", invitation, exchange_over_grpc)  # nobody is listening
    assert not result.fresh
    assert result.config == NodeConfig.load(tmp_path / "a")


def test_data_that_was_there_before_joining_stays(alliance: Alliance, tmp_path: Path) -> None:
    (tmp_path / "a" / "store").mkdir(parents=True)
    (tmp_path / "a" / "policy.toml").write_text("# mine\n")
    db = alliance.database()
    service = in_process(Enrolment.open(alliance.coordinator_dir, db))
    join(tmp_path / "a", invite(alliance.coordinator_dir, db, "a"), service)
    db.close()
    assert (tmp_path / "a" / "policy.toml").read_text() == "# mine\n"
    assert (tmp_path / "a" / "store").is_dir()


def test_an_encrypted_node_joins_and_connects(alliance: Alliance, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    with serving(alliance) as db:
        invitation = invite(alliance.coordinator_dir, db, "a")
        join(tmp_path / "a", invitation, exchange_over_grpc, passphrase_file=secret)
        for path in (tmp_path / "a" / "keys").glob("*.key.pem"):
            assert b"ENCRYPTED" in path.read_bytes()
        assert whoami(tmp_path / "a", alliance.authority) == "a:1"


def test_another_address_of_the_same_coordinator_works(alliance: Alliance, tmp_path: Path) -> None:
    with serving(alliance) as db:
        for name, port in (("a", alliance.port), ("b", alliance.enrolment_port)):
            invitation = invite(alliance.coordinator_dir, db, name)
            moved = at_address(invitation, "localhost", port)
            config = join(tmp_path / name, moved, exchange_over_grpc).config
            assert config.coordinator.authority == f"localhost:{alliance.port}"
            assert whoami(tmp_path / name, config.coordinator.authority).startswith(name)
    shifted = at_address(invitation, "localhost", 9000)
    assert (shifted.port, shifted.enrolment_port) == (9000, 9001)


def test_identity_and_roster_agree_on_the_key(tmp_path: Path) -> None:
    alliance = found_alliance(tmp_path, ["a"])
    db = alliance.database()
    member = db.read("get", lambda unit: unit.members.get("a"))
    assert member.public_key == public_hex(identity_key(alliance.dir_of("a")))
    assert KeyStore.of(alliance.dir_of("a")).identity.read_text() == member.identity_certificate
    db.close()
