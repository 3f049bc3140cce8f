"""What ends a run and what only delays it, seen from the thread that drives runs."""

from __future__ import annotations

import errno

import pytest

from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds import journal as journal_module
from coordinator.rounds.ending import still_open
from coordinator.rounds.launch import abort_run, start_run
from coordinator.rounds.run import RunDriver
from coordinator.rounds.supervisor import Supervisor
from shared.clock import FixedClock, SystemClock
from shared.files import storage_error
from shared.fleet.exchange import ENDED
from tests.support.runs import SETTINGS, federation
from tests.support.waiting import wait_until


def drive(fed, run_id, database=None):
    supervisor = Supervisor(
        fed.alliance.coordinator_dir, database or fed.database, fed.grid, retry_s=0.1
    )
    supervisor.start()
    try:
        wait_until(lambda: fed.run(run_id).state.terminal)
    finally:
        supervisor.stop()
    return fed.run(run_id)


@pytest.mark.parametrize("write", [3, 6, 9, 12])
def test_a_full_disk_delays_a_run_and_loses_nothing(tmp_path, monkeypatch, write):
    done = []
    honest = journal_module.write_atomic

    def full(path, data, *, mode=0o644):
        done.append(path.name)
        if len(done) == write:
            raise storage_error(OSError(errno.ENOSPC, "full"), path)
        honest(path, data, mode=mode)

    with federation(tmp_path) as fed:
        run_id = fed.start()
        monkeypatch.setattr(journal_module, "write_atomic", full)
        run = drive(fed, run_id)
        assert (run.state, run.reason) == (RunState.COMPLETED, "")
        assert len(done) > write
        summed = [item.round for item in fed.rounds(run_id) if item.state == "summed"]
        burnt = [item.round for item in fed.rounds(run_id) if item.state == "burnt"]
        assert sorted(summed + burnt) == [1, 2, 3]
        assert len(burnt) <= 1


def test_a_run_whose_manifest_expired_meanwhile_fails_with_its_reason(tmp_path, monkeypatch):
    with federation(tmp_path) as fed:
        run_id = fed.start()
        later = FixedClock(SystemClock().now())
        later.advance(100 * 3600)
        from coordinator.db import Database

        monkeypatch.setattr("coordinator.db.database.SystemClock", lambda: later)
        database = Database.open(fed.alliance.coordinator_dir)
        run = drive(fed, run_id, database)
        database.close()
        assert (run.state, run.reason_code) == (RunState.FAILED, "manifest")


def test_an_unexpected_error_fails_the_run_and_not_the_service(tmp_path, monkeypatch):
    def broken(_grid, _context):
        raise RuntimeError("listing 17: buy cheap watches")

    with federation(tmp_path) as fed:
        first = fed.start()
        monkeypatch.setattr("coordinator.rounds.supervisor.app", broken)
        run = drive(fed, first)
        assert (run.state, run.reason_code) == (RunState.FAILED, "internal")
        assert "watches" not in run.reason


def test_runs_go_one_after_the_other(tmp_path):
    with federation(tmp_path) as fed:
        settings = SETTINGS.model_copy(update={"rounds": 1})
        first = start_run(fed.alliance.coordinator_dir, fed.database, settings)
        second = start_run(fed.alliance.coordinator_dir, fed.database, settings)
        assert drive(fed, second).state is RunState.COMPLETED
        earlier, later = fed.run(first), fed.run(second)
        assert earlier.state is RunState.COMPLETED
        assert earlier.ended_at <= later.started_at


def secrets_of(fed, index):
    folder = list(fed.alliance.member_dirs.values())[index - 1] / "secsum"
    return sorted(path.name.partition("-")[0] for path in folder.glob("session-*.bin"))


def ends(fed):
    """Let members be told anew, by a service that starts; return how often each was told."""
    told = []

    def noting(message):
        if message.metadata.message_type == ENDED:
            told.append(message.metadata.dst_node_id)
        return False

    fed.grid.lose_reply = noting
    supervisor = Supervisor(fed.alliance.coordinator_dir, fed.database, fed.grid)
    supervisor.start()
    return told, supervisor


def test_a_service_that_starts_tells_of_runs_that_ended_before_it(tmp_path, monkeypatch):
    with federation(tmp_path) as fed:
        with monkeypatch.context() as killed:
            killed.setattr(RunDriver, "_tell_end", lambda *_: None)
            run_id = fed.start(SETTINGS.model_copy(update={"rounds": 1}))
            assert fed.drive(run_id).state is RunState.COMPLETED
        assert all(secrets_of(fed, index) for index in range(1, 6)), "nobody has told them"
        told, supervisor = ends(fed)
        wait_until(lambda: sorted(told) == [1, 2, 3, 4, 5])
        supervisor.stop()
        assert not any(secrets_of(fed, index) for index in range(1, 6))


def test_of_runs_whose_manifest_has_expired_or_that_never_began_nobody_is_told(tmp_path):
    with federation(tmp_path) as fed:
        one = SETTINGS.model_copy(update={"rounds": 1})
        old = fed.drive(fed.start(one.model_copy(update={"expires_hours": 1}))).run_id
        new = fed.drive(fed.start(one.model_copy(update={"expires_hours": 9}))).run_id
        never = Run("e" * 32, fed.database.clock.now(), 2)
        fed.database.write("add", lambda unit: unit.runs.add(never))
        assert abort_run(fed.database, never.run_id, "a test")
        later = FixedClock(SystemClock().now())
        later.advance(2 * 3600)
        key = load_signing_key(fed.alliance.coordinator_dir).public_key().public_bytes_raw()
        ended = fed.database.read("r", lambda unit: unit.runs.ended())
        assert [run.run_id for run in ended] == [old, new, never.run_id]
        assert [bool(still_open(run, key, later.now())) for run in ended] == [False, True, False]


def test_members_of_a_run_that_broke_off_are_told(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("unexpected")

    with federation(tmp_path) as fed:
        monkeypatch.setattr(RunDriver, "_release", broken)
        run_id = fed.start(SETTINGS.model_copy(update={"rounds": 1}))
        assert drive(fed, run_id).reason_code == "internal"
        wait_until(lambda: not any(secrets_of(fed, index) for index in range(1, 6)))
