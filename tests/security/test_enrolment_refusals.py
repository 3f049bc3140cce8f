"""Who is kept out, over real gRPC and TLS, and how clearly they are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.files import load_authority
from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.service import invite, revoke, roster
from participant.node.config import NodeConfig
from participant.node.enrolment_client import exchange_over_grpc
from participant.node.join import at_address, join
from participant.node.keystore import KeyStore, channel_credentials
from participant.node.probe import explained
from shared.clock import FixedClock, SystemClock
from shared.errors import (
    AuthError,
    Exit,
    MemberRevoked,
    NetworkError,
    StateError,
    TokenRefused,
    TouchstoneError,
    VerificationError,
)
from shared.trust.authority import Authority, found_authority
from shared.trust.certificates import to_pem
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.errors import (
    CertificateRefused,
    ConnectionCut,
    CoordinatorNotTrusted,
    FingerprintMismatch,
    RateLimited,
)
from shared.trust.invitation import Invitation, new_token
from shared.trust.keys import encode_key, new_identity_key, new_tls_key
from shared.trust.requests import make_request
from tests.support.alliance import (
    Alliance,
    found_alliance,
    in_process,
    serving,
    whoami,
    whoami_with,
)


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("ours"), ["a", "b"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Alliance:
    return found_alliance(tmp_path_factory.mktemp("theirs"), ["a"], name="Other alliance")


def _our_ca(alliance: Alliance) -> bytes:
    return (alliance.coordinator_dir / "keys" / "ca.pem").read_bytes()


def _self_signed(alliance_id: str) -> tuple[bytes, bytes]:
    now, key, ca_key = SystemClock().now(), new_tls_key(), new_tls_key()
    authority = Authority(ca_key, found_authority(ca_key, "Test alliance", now))
    certificate = authority.issue_member_tls(key.public_key(), "a", alliance_id, 1, now)
    return encode_key(key), to_pem(certificate)


class TestTheMembersPort:
    """No call gets through without a certificate this alliance issued to an active member."""

    def test_a_stranger_without_a_certificate(self, alliance: Alliance) -> None:
        credentials = grpc.ssl_channel_credentials(_our_ca(alliance))
        with serving(alliance), pytest.raises(ConnectionCut) as caught:
            whoami_with(credentials, alliance.authority)
        assert "does not accept this certificate" in caught.value.hint

    def test_a_stranger_with_a_certificate_of_its_own_making(self, alliance: Alliance) -> None:
        key, certificate = _self_signed(NodeConfig.load(alliance.dir_of("a")).alliance.id)
        credentials = grpc.ssl_channel_credentials(_our_ca(alliance), key, certificate)
        with serving(alliance), pytest.raises(ConnectionCut):
            whoami_with(credentials, alliance.authority)

    def test_a_caller_without_tls(self, alliance: Alliance) -> None:
        with (
            serving(alliance),
            grpc.insecure_channel(alliance.authority) as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary("/touchstone.test.Gate/Whoami")(b"", timeout=60)

    def test_a_member_of_another_alliance_finds_a_foreign_coordinator(
        self, alliance: Alliance, other: Alliance
    ) -> None:
        with serving(alliance), pytest.raises(CoordinatorNotTrusted) as caught:
            whoami(other.dir_of("a"), alliance.authority)
        assert "does not belong to this alliance" in caught.value.message
        assert caught.value.exit_code is Exit.AUTH

    def test_a_member_of_another_alliance_that_trusts_us_is_cut_off_and_told_why(
        self, alliance: Alliance, other: Alliance, tmp_path: Path
    ) -> None:
        folder = _copy_of(alliance.dir_of("a"), tmp_path / "spy")
        for name in ("tls.pem", "tls.key.pem"):
            data = (other.dir_of("a") / "keys" / name).read_bytes()
            (folder / "keys" / name).write_bytes(data)
        with serving(alliance):
            with pytest.raises(ConnectionCut) as caught:
                whoami(folder, alliance.authority)
            reason = explained(folder, caught.value)
        assert isinstance(reason, CertificateRefused)
        assert reason.exit_code is Exit.AUTH
        assert "does not accept this node's certificate" in reason.message

    def test_a_coordinator_that_is_down_is_no_refusal(self, alliance: Alliance) -> None:
        with pytest.raises(NetworkError) as caught:
            whoami(alliance.dir_of("a"), alliance.authority)
        assert caught.value.exit_code is Exit.NETWORK
        assert explained(alliance.dir_of("a"), caught.value) is caught.value
        cut = ConnectionCut("cut")
        assert explained(alliance.dir_of("a"), cut) is cut

    def test_a_revoked_member(self, tmp_path: Path) -> None:
        alliance = found_alliance(tmp_path, ["a", "b"])
        with serving(alliance) as db:
            assert whoami(alliance.dir_of("a"), alliance.authority) == "a:1"
            assert revoke(db, "a")
            with pytest.raises(MemberRevoked) as caught:
                whoami(alliance.dir_of("a"), alliance.authority)
            assert caught.value.exit_code is Exit.AUTH
            assert "'a' has been revoked" in caught.value.message
            assert "operator" in caught.value.hint
            assert whoami(alliance.dir_of("b"), alliance.authority) == "b:2"
            assert [entry.member_id for entry in roster(db).entries] == ["b"]
            assert roster(db).epoch == 3
            gate = Gatekeeper.open(alliance.coordinator_dir, db)
            gate.check(2)
            with pytest.raises(MemberRevoked):
                gate.check(1)
            with pytest.raises(AuthError):
                gate.check(99)
            assert not revoke(db, "a")
            with pytest.raises(StateError, match="already a member 'a'"):
                invite(alliance.coordinator_dir, db, "a")

    def test_an_address_the_certificate_does_not_name(self, alliance: Alliance) -> None:
        with serving(alliance), pytest.raises(CoordinatorNotTrusted) as caught:
            whoami(alliance.dir_of("a"), f"127.0.0.2:{alliance.port}")
        assert "for another address" in caught.value.message
        assert caught.value.exit_code is Exit.AUTH

    def test_a_certificate_of_ours_that_the_database_does_not_know(
        self, alliance: Alliance
    ) -> None:
        authority, now = load_authority(alliance.coordinator_dir), SystemClock().now()
        alliance_id = NodeConfig.load(alliance.dir_of("a")).alliance.id

        def credentials(member_id: str, index: int) -> grpc.ChannelCredentials:
            key = new_tls_key()
            issued = authority.issue_member_tls(
                key.public_key(), member_id, alliance_id, index, now
            )
            return grpc.ssl_channel_credentials(_our_ca(alliance), encode_key(key), to_pem(issued))

        with serving(alliance):
            for member_id, index, text in (
                ("ghost", 9, "does not know"),
                ("b", 1, "does not know"),
                ("a", 1, "not the member's current one"),
            ):
                with pytest.raises(AuthError, match=text):
                    whoami_with(credentials(member_id, index), alliance.authority)

    def test_an_expired_member_by_the_coordinators_clock(self, tmp_path: Path) -> None:
        alliance = found_alliance(tmp_path, ["a"])
        later = FixedClock(SystemClock().now() + timedelta(days=1000))
        with (
            serving(alliance, clock=later),
            pytest.raises(CertificateRefused, match="expired") as caught,
        ):
            whoami(alliance.dir_of("a"), alliance.authority)
        assert "new invitation" in caught.value.hint

    def test_a_swapped_authority_on_the_members_disk(
        self, alliance: Alliance, tmp_path: Path
    ) -> None:
        folder = _copy_of(alliance.dir_of("a"), tmp_path / "swapped")
        foreign = found_authority(new_tls_key(), "Test alliance", SystemClock().now())
        KeyStore.of(folder).ca.write_bytes(to_pem(foreign))
        with pytest.raises(FingerprintMismatch):
            channel_credentials(folder)


def _copy_of(source: Path, target: Path) -> Path:
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(path.stat().st_mode & 0o777)
    return target


class TestTheEnrolmentPort:
    """A token works once, in time, for one name, at the right coordinator."""

    def test_an_unknown_token(self, alliance: Alliance, tmp_path: Path) -> None:
        with serving(alliance) as db:
            invitation = replace(invite(alliance.coordinator_dir, db, "new"), token=new_token())
            _refused(tmp_path, invitation, TokenRefused, "does not know this token")

    def test_a_used_token(self, alliance: Alliance, tmp_path: Path) -> None:
        with serving(alliance) as db:
            invitation = invite(alliance.coordinator_dir, db, "used")
            join(tmp_path / "first", invitation, exchange_over_grpc)
            _refused(tmp_path, invitation, TokenRefused, "has been used already")

    def test_an_expired_token(self, tmp_path: Path) -> None:
        clock = FixedClock(SystemClock().now())
        alliance = found_alliance(tmp_path, [], clock=clock)
        with serving(alliance, clock=clock) as db:
            invitation = invite(alliance.coordinator_dir, db, "late", expires=timedelta(hours=1))
            clock.advance(3600)
            _refused(tmp_path, invitation, TokenRefused, "has expired")
            assert roster(db).entries == ()
            fresh = invite(alliance.coordinator_dir, db, "late", expires=timedelta(hours=1))
            clock.advance(3599)
            joined = join(tmp_path / "in-time", fresh, exchange_over_grpc, clock=clock)
            assert joined.fresh

    def test_a_replaced_token(self, alliance: Alliance, tmp_path: Path) -> None:
        with serving(alliance) as db:
            first = invite(alliance.coordinator_dir, db, "twice")
            invite(alliance.coordinator_dir, db, "twice")
            _refused(tmp_path, first, TokenRefused, "replaced by a newer one")

    def test_a_token_for_another_name(self, alliance: Alliance, tmp_path: Path) -> None:
        with serving(alliance) as db:
            invitation = invite(alliance.coordinator_dir, db, "mine")
            stolen = replace(invitation, member_id="yours")
            _refused(tmp_path, stolen, TokenRefused, "another name")
            assert join(tmp_path / "mine", invitation, exchange_over_grpc).fresh

    def test_a_token_of_another_alliance(
        self, alliance: Alliance, other: Alliance, tmp_path: Path
    ) -> None:
        db = other.database()
        foreign = invite(other.coordinator_dir, db, "spy")
        db.close()
        moved = at_address(foreign, alliance.host, alliance.port)
        with serving(alliance):
            _refused(tmp_path, moved, CoordinatorNotTrusted, "does not belong to this alliance")
            trusting = replace(moved, ca_pem=_our_ca(alliance))
            with pytest.raises(FingerprintMismatch):
                join(tmp_path / "spy", trusting, exchange_over_grpc)

    def test_a_token_of_a_member_revoked_since(self, tmp_path: Path) -> None:
        alliance = found_alliance(tmp_path, [])
        with serving(alliance) as db:
            invitation = invite(alliance.coordinator_dir, db, "a")
            join(tmp_path / "a", invitation, exchange_over_grpc)
            revoke(db, "a")
            (tmp_path / "a" / "node.toml").unlink()
            with pytest.raises(MemberRevoked):
                join(tmp_path / "a", invitation, exchange_over_grpc)

    def test_a_wrong_fingerprint_stops_before_the_network(
        self, alliance: Alliance, other: Alliance, tmp_path: Path
    ) -> None:
        db = alliance.database()
        invitation = invite(alliance.coordinator_dir, db, "careful")
        db.close()
        announced = NodeConfig.load(other.dir_of("a")).alliance.ca_fingerprint

        def never(_: Invitation, __: EnrolmentRequest) -> EnrolmentGrant:
            raise AssertionError("nothing may be sent")

        with pytest.raises(FingerprintMismatch) as caught:
            join(tmp_path / "careful", invitation, never, ca_fingerprint=announced)
        assert caught.value.exit_code is Exit.AUTH
        assert not (tmp_path / "careful").exists()

    def test_a_wrong_host(self, alliance: Alliance, tmp_path: Path) -> None:
        db = alliance.database()
        invitation = invite(alliance.coordinator_dir, db, "lost")
        db.close()
        nowhere = at_address(invitation, "127.0.0.1", 1)
        error = _refused(tmp_path, nowhere, NetworkError, "cannot be reached")
        assert error.exit_code is Exit.NETWORK

    def test_a_key_that_is_a_members_already(self, alliance: Alliance) -> None:
        db = alliance.database()
        service = Enrolment.open(alliance.coordinator_dir, db)
        identity = new_identity_key()

        def request(name: str) -> EnrolmentRequest:
            return EnrolmentRequest(
                invite(alliance.coordinator_dir, db, name).token,
                name,
                make_request(new_tls_key(), name),
                make_request(identity, name),
            )

        service.enrol(request("twin-one"))
        second = request("twin-two")
        with pytest.raises(StateError, match="already a member's"):
            service.enrol(second)
        unused = replace(second, identity_request=make_request(new_identity_key(), "x"))
        assert service.enrol(unused).member_id == "twin-two"  # the refusal used nothing up
        db.close()

    def test_an_oversize_message_never_reaches_the_service(
        self, alliance: Alliance, tmp_path: Path
    ) -> None:
        with serving(alliance) as db:
            invitation = invite(alliance.coordinator_dir, db, "large")
            huge = EnrolmentRequest(invitation.token, "large", b"x" * 70_000, b"y")
            with pytest.raises(NetworkError, match="resource exhausted"):
                exchange_over_grpc(invitation, huge)
            assert join(tmp_path / "large", invitation, exchange_over_grpc).fresh

    def test_garbage_is_refused_and_counted(self, tmp_path: Path) -> None:
        alliance = found_alliance(tmp_path, [])
        frozen = FixedClock(SystemClock().now())
        with serving(alliance, clock=frozen) as db:
            invitation = invite(alliance.coordinator_dir, db, "a")
            codes = []
            for _ in range(62):
                request = EnrolmentRequest(b"short", "a", b"no", b"csr")
                with pytest.raises(TouchstoneError) as caught:
                    exchange_over_grpc(invitation, request)
                codes.append(type(caught.value))
            assert codes == [TokenRefused] * 60 + [RateLimited] * 2
            frozen.advance(60)
            assert join(tmp_path / "a", invitation, exchange_over_grpc).fresh


def _refused(
    tmp_path: Path, invitation: Invitation, error: type[TouchstoneError], text: str
) -> TouchstoneError:
    folder = tmp_path / "refused"
    with pytest.raises(error, match=text) as caught:
        join(folder, invitation, exchange_over_grpc)
    assert not (folder / "node.toml").exists()
    assert not list((folder / "keys").glob("tls.pem"))
    assert invitation.token.hex() not in f"{caught.value.message}{caught.value.hint}"
    if issubclass(error, AuthError):
        assert caught.value.exit_code is Exit.AUTH
    return caught.value


class TestALyingCoordinator:
    """The member checks the answer against what it sent and whom it trusts."""

    @pytest.mark.parametrize("field", ["tls_certificate", "identity_certificate", "ca_certificate"])
    def test_certificates_of_another_authority(
        self, alliance: Alliance, other: Alliance, tmp_path: Path, field: str
    ) -> None:
        theirs = KeyStore.of(other.dir_of("a"))
        foreign = {
            "tls_certificate": theirs.tls,
            "identity_certificate": theirs.identity,
            "ca_certificate": theirs.ca,
        }[field].read_bytes()
        self._expect_refusal(alliance, tmp_path, **{field: foreign})

    def test_somebody_elses_certificates(self, alliance: Alliance, tmp_path: Path) -> None:
        theirs = KeyStore.of(alliance.dir_of("a"))
        self._expect_refusal(alliance, tmp_path, tls_certificate=theirs.tls.read_bytes())

    def test_another_index(self, alliance: Alliance, tmp_path: Path) -> None:
        self._expect_refusal(alliance, tmp_path, index=77)

    def test_a_malformed_signing_key(self, alliance: Alliance, tmp_path: Path) -> None:
        self._expect_refusal(alliance, tmp_path, coordinator_public_key=b"\0" * 31)

    def _expect_refusal(self, alliance: Alliance, tmp_path: Path, **changes: object) -> None:
        db = alliance.database()
        name = f"victim-{new_token().hex()[:8]}"
        honest = in_process(Enrolment.open(alliance.coordinator_dir, db))
        invitation = invite(alliance.coordinator_dir, db, name)

        def lying(invitation: Invitation, request: EnrolmentRequest) -> EnrolmentGrant:
            return replace(honest(invitation, request), **changes)  # type: ignore[arg-type]

        with pytest.raises((VerificationError, CertificateRefused)):
            join(tmp_path / name, invitation, lying)
        assert not (tmp_path / name / "node.toml").exists()
        db.close()
