"""A node that looks for releases itself: each is judged once, and what fails is tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from sqlalchemy import update

from coordinator.db.tables import ReleaseRow
from participant.deployment import past as past_module
from participant.node.registry_client import channel_factory
from participant.node.release_watch import Looker
from shared.clock import FixedClock
from shared.errors import NetworkError
from shared.model.bundle import FILE_NAME
from tests.support.alliance import found_alliance
from tests.support.deployment import Member, knowing, member_of, running, served_member
from tests.support.registry import serving
from tests.support.release import AT

WORSE, GOOD, BAD = knowing(0.5), knowing(1.0), knowing(-1.0)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with served_member(tmp_path) as member:
        yield member


class Counting(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """A factory of channels that notes what is asked over them, and breaks when told to."""

    def __init__(self, member: Member) -> None:
        self._open = channel_factory(member.folder)
        self.asked: list[str] = []
        self.broken = ""

    def __call__(self) -> grpc.Channel:
        return grpc.intercept_channel(self._open(), self)

    def _asked(self, continuation, details, request):
        self.asked.append(details.method.rpartition("/")[2])
        if self.asked[-1] == self.broken:
            raise NetworkError("the line is cut")
        return continuation(details, request)

    intercept_unary_unary = intercept_unary_stream = _asked


def looker(member: Member, factory: Counting, clock: FixedClock | None = None) -> Looker:
    return Looker(member.folder, factory=factory, clock=clock or member.clock)


def judged(member: Member) -> list[tuple[str, str]]:
    return [(name[:6], action) for name, action, _ in member.decisions()]


def test_releases_of_a_long_absence_are_judged_in_order_and_once(member):
    """Without records of its own this node takes its first release and keeps it."""
    ids = [member.publish(number, GOOD).hex()[:6] for number in (1, 2, 3)]
    factory = Counting(member)
    look = looker(member, factory)
    assert look()
    assert judged(member) == [(ids[0], "activate"), (ids[1], "keep"), (ids[2], "keep")]
    assert len(factory.asked) == 7
    assert look()
    assert factory.asked[7:] == ["ListReleases"]
    assert len(judged(member)) == 3


def test_one_that_was_rolled_back_by_hand_is_left_alone(member):
    first, second = member.publish(1, WORSE), member.publish(2, GOOD)
    member.deploy(first)
    member.deploy(second)
    member.deployer().rollback()
    before = member.decisions()
    assert looker(member, Counting(member))()
    assert member.decisions() == before
    assert running(member) == first.hex()


def test_a_fetch_that_fails_is_tried_again(member):
    release_id = member.publish(1, GOOD)
    factory = Counting(member)
    look = looker(member, factory)
    for broken in ("ListReleases", "GetRelease", "GetTranscript"):
        factory.broken = broken
        assert not look()
        assert running(member) is None
    factory.broken = ""
    assert look()
    assert running(member) == release_id.hex()


def test_nobody_there_is_no_look(tmp_path):
    member = member_of(found_alliance(tmp_path, ["a"]), "a")
    look = looker(member, Counting(member))
    assert not look()
    with serving(member.alliance, member.database):
        assert look()
    member.database.close()


def test_a_release_that_does_not_verify_is_refused_once_a_day_and_the_next_one_runs(member):
    refused, good = member.publish(1, GOOD), member.publish(2, GOOD)
    file = member.alliance.coordinator_dir / "releases" / refused.hex() / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _serve_as_it_is(member, refused)
    clock = FixedClock(AT)
    look = looker(member, Counting(member), clock)
    for _ in range(3):
        assert look()
    assert member.kinds_of_events().count("model.refused") == 1
    assert running(member) == good.hex()


def test_a_refused_release_is_fetched_again_the_next_day(member):
    refused = member.publish(1, GOOD)
    file = member.alliance.coordinator_dir / "releases" / refused.hex() / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    before = _serve_as_it_is(member, refused)
    clock = FixedClock(AT)
    factory = Counting(member)
    look = looker(member, factory, clock)
    assert look()
    file.write_bytes(whole)  # the operator has restored it
    _point_at(member, refused, before)
    factory.asked.clear()
    assert look()
    assert factory.asked == ["ListReleases"]
    assert running(member) is None
    clock.advance(past_module.REFUSED_PAUSE.total_seconds() + 1)
    assert look()
    assert running(member) == refused.hex()


def test_what_is_fetched_does_not_depend_on_what_was_decided(tmp_path):
    """Two members, one of which activated number 2 and one of which kept what ran.

    The coordinator then shows number 1, which neither has seen, under a number that is made up.
    """
    alliance = found_alliance(tmp_path, ["a", "b"])
    took, kept = member_of(alliance, "a"), member_of(alliance, "b")
    asked = []
    with serving(alliance, took.database):
        hidden, shown = took.publish(1, GOOD), took.publish(2, GOOD)
        for member in (took, kept):
            if member is kept:
                member.deployer().activate_local()
                member.deployer().pin("local")
            member.deploy(shown)
        _renumber(took, hidden, 99)
        for member in (took, kept):
            factory = Counting(member)
            assert looker(member, factory)()
            asked.append(factory.asked)
            assert hidden.hex() not in [name for name, _, _ in member.decisions()]
    assert [row[1] for row in kept.decisions()][-1] == "keep"
    assert running(took) == shown.hex()
    assert asked == [["ListReleases", "GetRelease"]] * 2
    for member in (took, kept):
        member.database.close()


def _serve_as_it_is(member: Member, release_id: bytes) -> str:
    """Let the catalogue name the digest of the file as it lies there; return the former one."""
    row = member.database.read("get", lambda unit: unit.releases.get(release_id.hex()))
    file = member.alliance.coordinator_dir / row.path / FILE_NAME
    _point_at(member, release_id, hashlib.sha256(file.read_bytes()).hexdigest())
    return row.sha256


def _point_at(member: Member, release_id: bytes, sha256: str) -> None:
    _change(member, release_id, "sha256", sha256)


def _renumber(member: Member, release_id: bytes, sequence: int) -> None:
    _change(member, release_id, "sequence", sequence)


def _change(member: Member, release_id: bytes, column: str, value: object) -> None:
    where = ReleaseRow.release_id == release_id.hex()
    with member.database.engine.begin() as connection:
        connection.execute(update(ReleaseRow).where(where).values({column: value}))
