"""What the coordinator's database promises, on every database it runs on.

SQLite always. PostgreSQL on a server that is started for this, where one is installed, or on the
empty database whose URL TOUCHSTONE_TEST_POSTGRES holds; else its tests are skipped and say why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from coordinator.db import Database, Unit
from coordinator.db.records import (
    Alliance,
    Invitation,
    Member,
    MemberStatus,
    Refusal,
    Release,
    Round,
    Run,
    RunState,
)
from coordinator.db.tables import Table
from shared.audit.chain import Head
from shared.clock import FixedClock, from_unix
from shared.errors import BadInput, NotFound, StateError, VerificationError
from tests.support import postgres

NOW = from_unix(1_780_000_000)
URL = os.environ.get("TOUCHSTONE_TEST_POSTGRES", "")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    reason = "" if URL else postgres.missing()
    if reason:
        pytest.skip(f"{reason}, and TOUCHSTONE_TEST_POSTGRES is not set")
    if URL:
        yield URL
        return
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    clock = FixedClock(NOW)
    if request.param == "sqlite":
        database = Database.open(tmp_path, clock=clock, create=True)
    else:
        database = Database.open(request.getfixturevalue("postgres_url"), clock=clock)
        with database.engine.begin() as connection:
            for table in reversed(Table.metadata.sorted_tables):
                connection.execute(table.delete())
    yield database
    database.close()


def _member(index: int, name: str = "") -> Member:
    return Member(
        index=index,
        member_id=name or f"m{index}",
        public_key=f"{index:064x}",
        tls_fingerprint=f"tls {index}",
        identity_fingerprint=f"id {index}",
        tls_certificate="pem",
        identity_certificate="pem",
        joined_at=NOW,
    )


def _run(run_id: str = "aa", **values: object) -> Run:
    return Run(run_id=run_id, created_at=NOW, rounds=3, **values)  # type: ignore[arg-type]


class TestSchema:
    def test_the_migrations_build_what_the_tables_say(self, db: Database) -> None:
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, Table.metadata) == []


class TestAlliance:
    def test_there_is_one(self, db: Database) -> None:
        alliance = Alliance("a" * 32, "Name", "host", 1, 2, "fp", NOW)
        with pytest.raises(NotFound, match="no alliance"):
            db.read("get", lambda unit: unit.alliance.get())
        db.write("found", lambda unit: unit.alliance.found(alliance))
        assert db.read("get", lambda unit: unit.alliance.get()) == alliance
        with pytest.raises(StateError):
            db.write("found", lambda unit: unit.alliance.found(alliance))
        assert db.write("epoch", lambda unit: unit.alliance.next_epoch()) == 1
        assert db.read("get", lambda unit: unit.alliance.get()).roster_epoch == 1


class TestMembers:
    def test_they_come_back_as_they_went_in(self, db: Database) -> None:
        db.write("add", lambda unit: [unit.members.add(_member(i)) for i in (2, 1)])
        assert db.read("all", lambda unit: unit.members.all()) == [_member(1), _member(2)]
        assert db.read("get", lambda unit: unit.members.get("m2")).joined_at.tzinfo is not None

    def test_indices_are_never_given_twice(self, db: Database) -> None:
        assert db.read("next", lambda unit: unit.members.next_index()) == 1
        db.write("add", lambda unit: unit.members.add(_member(7)))
        db.write("revoke", lambda unit: unit.members.revoke("m7", NOW))
        assert db.read("next", lambda unit: unit.members.next_index()) == 8

    def test_names_and_keys_are_taken_once(self, db: Database) -> None:
        db.write("add", lambda unit: unit.members.add(_member(1)))
        with pytest.raises(StateError):
            db.write("add", lambda unit: unit.members.add(_member(2, "m1")))
        with pytest.raises(NotFound):
            db.read("get", lambda unit: unit.members.get("m2"))

    def test_revoked_ones_stay_on_record(self, db: Database) -> None:
        db.write("add", lambda unit: [unit.members.add(_member(i)) for i in (1, 2)])
        db.write("revoke", lambda unit: unit.members.revoke("m1", NOW))
        revoked = db.read("get", lambda unit: unit.members.get("m1"))
        assert (revoked.status, revoked.revoked_at) == (MemberStatus.REVOKED, NOW)
        assert db.read("active", lambda unit: unit.members.active()) == [_member(2)]

    def test_being_seen_is_noted(self, db: Database) -> None:
        db.write("add", lambda unit: unit.members.add(_member(1)))
        db.write("seen", lambda unit: (unit.members.seen(1, NOW), unit.members.seen(9, NOW)))
        member = db.read("get", lambda unit: unit.members.by_index(1))
        assert member is not None
        assert member.last_seen_at == NOW


class TestInvitations:
    def test_one_is_consumed_once_and_in_time(self, db: Database) -> None:
        end = NOW + timedelta(hours=1)
        one = Invitation("a", "h1", NOW, end)
        db.write("add", lambda unit: unit.invitations.add(one))

        def consume(at: timedelta) -> bool:
            return db.write("consume", lambda unit: unit.invitations.consume("h1", NOW + at))

        assert not consume(timedelta(hours=1))
        assert db.read("open", lambda unit: unit.invitations.open(NOW)) == [one]
        assert consume(timedelta(minutes=59))
        assert not consume(timedelta(minutes=59))
        assert db.read("open", lambda unit: unit.invitations.open(NOW)) == []

    def test_only_one_thread_consumes_it(self, db: Database) -> None:
        one = Invitation("a", "h1", NOW, NOW + timedelta(hours=1))
        db.write("add", lambda unit: unit.invitations.add(one))
        barrier = threading.Barrier(8)

        def attempt(_: int) -> bool:
            barrier.wait()
            return db.write("consume", lambda unit: unit.invitations.consume("h1", NOW))

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(8))) == 1

    def test_a_newer_one_voids_the_older(self, db: Database) -> None:
        for token in ("h1", "h2"):
            one = Invitation("a", token, NOW, NOW + timedelta(hours=1))
            db.write("replace", lambda unit: unit.invitations.replace("a", NOW))
            db.write("add", lambda unit, one=one: unit.invitations.add(one))
        assert not db.write("consume", lambda unit: unit.invitations.consume("h1", NOW))
        assert db.write("consume", lambda unit: unit.invitations.consume("h2", NOW))


class TestRuns:
    def test_the_usual_life(self, db: Database) -> None:
        db.write("add", lambda unit: unit.runs.add(_run(params={"clip": 1.5}, manifest=b"\0m")))
        later = NOW + timedelta(minutes=5)
        steps = ["setup", "running", "setup", "running", "releasing", "completed"]
        for step in steps:
            db.write("go", lambda unit, s=step: unit.runs.advance("aa", RunState(s), later))
        db.write("release", lambda unit: unit.runs.set_release("aa", "rel"))
        run = db.read("get", lambda unit: unit.runs.get("aa"))
        assert (run.state, run.started_at, run.ended_at) == (RunState.COMPLETED, later, later)
        assert (run.params, run.manifest, run.release_id) == ({"clip": 1.5}, b"\0m", "rel")

    @pytest.mark.parametrize("end", [RunState.ABORTED, RunState.FAILED])
    def test_there_is_one_terminal_state(self, db: Database, end: RunState) -> None:
        db.write("add", lambda unit: unit.runs.add(_run()))
        db.write("end", lambda u: u.runs.advance("aa", end, NOW, reason_code="why", reason="text"))
        for state in RunState:
            if state is not end:
                with pytest.raises(StateError, match="cannot become"):
                    db.write("go", lambda u, s=state: u.runs.advance("aa", s, NOW))
        again = db.write("end", lambda unit: unit.runs.advance("aa", end, NOW))
        assert (again.reason_code, again.reason) == ("why", "text")
        assert db.read("left", lambda unit: unit.runs.unfinished()) == []

    def test_steps_cannot_be_skipped(self, db: Database) -> None:
        db.write("add", lambda unit: unit.runs.add(_run()))
        for state in (RunState.RUNNING, RunState.RELEASING, RunState.COMPLETED):
            with pytest.raises(StateError):
                db.write("go", lambda u, s=state: u.runs.advance("aa", s, NOW))

    def test_ids_are_found_by_a_unique_prefix(self, db: Database) -> None:
        db.write("add", lambda unit: [unit.runs.add(_run(i)) for i in ("ab1", "ab2", "c_3")])
        assert db.read("find", lambda unit: unit.runs.resolve("c")).run_id == "c_3"
        for prefix in ("", "ab", "zz", "%", "_b"):
            with pytest.raises(NotFound):
                db.read("find", lambda unit, p=prefix: unit.runs.resolve(p))
        with pytest.raises(StateError, match="exists already"):
            db.write("add", lambda unit: unit.runs.add(_run("ab1")))

    def test_rounds_and_refusals(self, db: Database) -> None:
        db.write("add", lambda unit: (unit.runs.add(_run()), unit.members.add(_member(1))))
        first = Round("aa", 1, 1, "masked", NOW, slot=0, listed=(1, 2), bytes_up=2**40)
        db.write("put", lambda unit: unit.rounds.put(first))
        changed = db.write(
            "change", lambda unit: unit.rounds.change("aa", 1, 1, state="summed", survivors=(1,))
        )
        assert changed.survivors == (1,)
        assert db.read("of", lambda unit: unit.rounds.of_run("aa")) == [changed]
        refusal = Refusal("aa", 1, "hours", NOW)
        db.write("refuse", lambda unit: (unit.rounds.refuse(refusal), unit.rounds.refuse(refusal)))
        assert db.read("refusals", lambda unit: unit.rounds.refusals("aa")) == [refusal]
        with pytest.raises(NotFound):
            db.write("change", lambda unit: unit.rounds.change("aa", 9, 1, state="x"))


class TestReleases:
    def test_sequence_numbers_rise(self, db: Database) -> None:
        db.write("add", lambda unit: [unit.runs.add(_run(i)) for i in ("aa", "bb")])
        for number, run_id in enumerate(("aa", "bb"), start=1):

            def publish(unit: Unit, run_id: str = run_id) -> None:
                sequence = unit.releases.next_sequence()
                unit.releases.add(Release(f"r{run_id}", run_id, sequence, NOW, b"m", "p", "s"))

            db.write("publish", publish)
            latest = db.read("latest", lambda unit: unit.releases.latest())
            assert latest is not None
            assert latest.sequence == number
        again = Release("new", "aa", 9, NOW, b"m", "p", "s")
        with pytest.raises(StateError):
            db.write("publish", lambda unit: unit.releases.add(again))
        found = db.read("of", lambda unit: unit.releases.of_run("aa"))
        assert found is not None
        assert db.read("get", lambda unit: unit.releases.get("raa")) == found
        with pytest.raises(NotFound):
            db.read("get", lambda unit: unit.releases.get("nope"))


class TestAudit:
    def _fill(self, db: Database, count: int = 5) -> None:
        for number in range(count):
            body = {"n": number, "text": "ä"}
            db.write("log", lambda unit, b=body: unit.audit.append("a.b", b, actor="x"))

    def test_an_untouched_log_is_proven(self, db: Database) -> None:
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 0
        self._fill(db)
        head = db.read("verify", lambda unit: unit.audit.verify())
        assert head.seq == 5
        assert db.read("verify", lambda unit: unit.audit.verify(head)) == head
        events = db.read("events", lambda unit: unit.audit.events(kind="a.b", last=2))
        assert [event.seq for event in events] == [4, 5]
        assert db.read("events", lambda unit: unit.audit.events(kind="none")) == []

    @pytest.mark.parametrize(
        "tampering",
        [
            "UPDATE audit_event SET body = '{\"n\":9}' WHERE seq = 3",
            "UPDATE audit_event SET actor = 'y' WHERE seq = 3",
            "UPDATE audit_event SET kind = 'c.d' WHERE seq = 5",
            "UPDATE audit_event SET at = '2020-01-01T00:00:00Z' WHERE seq = 1",
            "DELETE FROM audit_event WHERE seq = 2",
            "DELETE FROM audit_event WHERE seq = 1",
            "UPDATE audit_event SET prev_hash = hash WHERE seq = 4",
        ],
    )
    def test_tampering_is_found(self, db: Database, tampering: str) -> None:
        self._fill(db)
        with db.engine.begin() as connection:
            connection.execute(text(tampering.replace(":9", r"\:9").replace(":00", r"\:00")))
        with pytest.raises(VerificationError):
            db.read("verify", lambda unit: unit.audit.verify())

    def test_a_cut_end_is_found_by_a_noted_head(self, db: Database) -> None:
        self._fill(db)
        head = db.read("verify", lambda unit: unit.audit.verify())
        with db.engine.begin() as connection:
            connection.execute(text("DELETE FROM audit_event WHERE seq = 5"))
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 4
        with pytest.raises(VerificationError):
            db.read("verify", lambda unit: unit.audit.verify(head))
        with pytest.raises(VerificationError):
            db.read("verify", lambda unit: unit.audit.verify(Head(3, bytes(32))))

    def test_writers_queue_up_and_the_chain_holds(self, db: Database) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: self._fill(db, 5), range(8)))
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 40

    def test_a_body_that_is_not_json_is_refused(self, db: Database) -> None:
        with pytest.raises(BadInput):
            db.write("log", lambda unit: unit.audit.append("a", {"b": b"bytes"}))
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 0


class TestTransactions:
    def test_an_error_takes_everything_back(self, db: Database) -> None:
        def work(unit: Unit) -> None:
            unit.members.add(_member(1))
            unit.audit.append("member.joined")
            raise StateError("no")

        with pytest.raises(StateError, match="no"):
            db.write("fail", work)
        assert db.read("all", lambda unit: unit.members.all()) == []
        assert db.read("verify", lambda unit: unit.audit.verify()).seq == 0

    def test_what_a_read_writes_is_gone(self, db: Database) -> None:
        db.read("peek", lambda unit: unit.members.add(_member(1)))
        assert db.read("all", lambda unit: unit.members.all()) == []
