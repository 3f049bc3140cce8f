"""Who gets no new certificates, however valid the connection is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.db import Database
from coordinator.enrolment.renewing import Renewals
from coordinator.enrolment.service import revoke
from participant.node.config import NodeConfig
from participant.node.keystore import connection_pair, identity_key
from participant.node.renewal import over_grpc, renew
from shared.clock import FixedClock, SystemClock
from shared.errors import AuthError, Exit, MalformedMessage, MemberRevoked
from shared.limits import MAX_OPEN_RENEWALS, RENEWALS_PER_MINUTE
from shared.trust.certificates import fingerprint
from shared.trust.errors import CertificateRefused, RateLimited, RenewalRefused, RequestRefused
from shared.trust.keys import new_identity_key, new_tls_key
from shared.trust.renewal import RenewalRequest, RenewalStatement
from shared.trust.requests import make_request
from tests.support.alliance import Alliance, found_alliance, serving
from tests.support.renewal import directly, renewals


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    return found_alliance(tmp_path, ["a", "b"])


@pytest.fixture
def db(alliance: Alliance) -> Iterator[Database]:
    clock = FixedClock(SystemClock().now())
    database = alliance.database(clock)
    yield database
    database.close()


@pytest.fixture
def service(alliance: Alliance, db: Database) -> Renewals:
    return renewals(alliance, db)


def _statement(folder: Path) -> RenewalStatement:
    config = NodeConfig.load(folder)
    current = fingerprint(connection_pair(folder).certificate).replace(":", "")
    return RenewalStatement(
        alliance_id=bytes.fromhex(config.alliance.id),
        index=config.member.index,
        member_id=config.member.member_id,
        identity_key=identity_key(folder).public_key().public_bytes_raw(),
        current=bytes.fromhex(current),
        tls_request=make_request(new_tls_key(), config.member.member_id),
    )


def _refusals(db: Database) -> list[dict[str, object]]:
    events = db.read("events", lambda unit: list(unit.audit.events()))
    return [dict(event.body) for event in events if event.kind == "member.renewal_refused"]


def _open(db: Database, index: int, pem_fingerprint: str) -> bool:
    return db.read("open", lambda unit: unit.renewals.has(index, pem_fingerprint))


def test_a_revoked_member_renews_nothing(alliance: Alliance) -> None:
    folder = alliance.dir_of("a")
    with serving(alliance) as db:
        revoke(db, "a")
        with pytest.raises(MemberRevoked) as caught:
            renew(folder, over_grpc(folder))
    assert caught.value.exit_code is Exit.AUTH


def test_a_member_revoked_between_issue_and_first_use_stays_outside(
    alliance: Alliance, db: Database, service: Renewals
) -> None:
    folder = alliance.dir_of("a")
    renew(folder, directly(service, folder))
    revoke(db, "a")
    with pytest.raises(MemberRevoked):
        service.admit(connection_pair(folder).pem)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 2, "member_id": "b"},
        {"member_id": "b"},
        {"index": 2},
        {"alliance_id": bytes(16)},
        {"current": bytes(32)},
        {"identity_key": bytes(32)},
    ],
    ids=["another member", "another name", "another number", "alliance", "connection", "identity"],
)
def test_a_statement_that_is_more_than_a_continuation(
    alliance: Alliance, db: Database, service: Renewals, change: dict[str, object]
) -> None:
    folder = alliance.dir_of("a")
    statement = replace(_statement(folder), **change)
    request = RenewalRequest.sign(statement, identity_key(folder))
    with pytest.raises(RenewalRefused):
        directly(service, folder)(request)
    assert _refusals(db) == [{"index": 1, "code": "renewal_refused"}]


def test_another_members_signed_request_over_ones_own_connection(
    alliance: Alliance, service: Renewals
) -> None:
    theirs = alliance.dir_of("b")
    request = RenewalRequest.sign(_statement(theirs), identity_key(theirs))
    with pytest.raises(RenewalRefused, match="not signed by the member's identity key"):
        directly(service, alliance.dir_of("a"))(request)


def test_a_stolen_connection_key_without_the_identity_key(
    alliance: Alliance, service: Renewals
) -> None:
    """The thief holds tls.pem and its key, and signs with an identity key of its own."""
    folder, own = alliance.dir_of("a"), new_identity_key()
    named = replace(_statement(folder), identity_key=own.public_key().public_bytes_raw())
    for statement in (_statement(folder), named):
        with pytest.raises(RenewalRefused, match="not signed by the member's identity key"):
            directly(service, folder)(RenewalRequest.sign(statement, own))


def test_a_replayed_request_once_the_new_certificate_is_in_use(
    alliance: Alliance, service: Renewals
) -> None:
    folder = alliance.dir_of("a")
    captured = RenewalRequest.sign(_statement(folder), identity_key(folder))
    renew(folder, directly(service, folder))
    service.admit(connection_pair(folder).pem)
    with pytest.raises(RenewalRefused, match="another connection's certificate"):
        directly(service, folder)(captured)


@pytest.mark.parametrize(
    ("request_of", "error"),
    [
        (lambda folder: make_request(connection_pair(folder).key, "a"), RenewalRefused),
        (lambda folder: make_request(new_identity_key(), "a"), RequestRefused),
        (lambda folder: b"nonsense", RequestRefused),
        (
            lambda folder: make_request(new_tls_key(), "a").replace(b"A", b"B", 3),
            RequestRefused,
        ),
    ],
    ids=["the old key again", "an Ed25519 key", "nonsense", "damaged"],
)
def test_a_signing_request_that_cannot_be_used(
    alliance: Alliance, service: Renewals, request_of, error: type[AuthError]
) -> None:
    folder = alliance.dir_of("a")
    statement = replace(_statement(folder), tls_request=request_of(folder))
    with pytest.raises(error):
        directly(service, folder)(RenewalRequest.sign(statement, identity_key(folder)))


def test_bytes_that_are_signed_but_no_statement(alliance: Alliance, service: Renewals) -> None:
    folder = alliance.dir_of("a")
    noise = b"touchstone, but not a statement"
    with pytest.raises(MalformedMessage):
        directly(service, folder)(RenewalRequest(noise, identity_key(folder).sign(noise)))


def test_an_expired_certificate_renews_nothing(alliance: Alliance) -> None:
    late = alliance.database(FixedClock(SystemClock().now() + timedelta(days=900)))
    folder = alliance.dir_of("a")
    with pytest.raises(CertificateRefused, match="expired"):
        renew(folder, directly(renewals(alliance, late), folder))
    late.close()


def test_many_requests_are_slowed_down_and_few_certificates_stay_open(
    alliance: Alliance, db: Database, service: Renewals
) -> None:
    folder, clock = alliance.dir_of("a"), db.clock
    assert isinstance(clock, FixedClock)
    old = connection_pair(folder)

    def ask() -> str:
        statement = replace(_statement(folder), tls_request=make_request(new_tls_key(), "a"))
        request = RenewalRequest.sign(statement, identity_key(folder))
        issued = service.renew(old.pem, request).tls_certificate
        from shared.trust.certificates import load_certificate

        return fingerprint(load_certificate(issued))

    first = [ask() for _ in range(RENEWALS_PER_MINUTE)]
    with pytest.raises(RateLimited):
        ask()
    assert _refusals(db) == []  # a flood must not fill the audit log
    for _ in range(MAX_OPEN_RENEWALS):
        clock.advance(60.0)
        first.append(ask())
    still = [mark for mark in first if _open(db, 1, mark)]
    assert still == first[-MAX_OPEN_RENEWALS:]
    assert service.admit(old.pem).index == 1


def test_an_issued_certificate_is_only_its_members(
    alliance: Alliance, db: Database, service: Renewals
) -> None:
    folder = alliance.dir_of("a")
    renew(folder, directly(service, folder))
    assert not _open(db, 2, fingerprint(connection_pair(folder).certificate))
