"""What ends a run and what only delays it, seen from the thread that drives runs."""

from __future__ import annotations

import errno

import pytest

from coordinator.db.records import RunState
from coordinator.rounds import journal as journal_module
from coordinator.rounds.launch import start_run
from coordinator.rounds.supervisor import Supervisor
from shared.clock import FixedClock, SystemClock
from shared.files import storage_error
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
