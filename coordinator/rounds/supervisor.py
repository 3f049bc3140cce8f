"""Takes up pending and interrupted runs, one after the other, inside `serve`."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog
from flwr.app import Context, RecordDict

from coordinator.app import app, run_flower_id, stop_with
from coordinator.db import Database, Unit
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.fleet.grid import AllianceGrid
from coordinator.rounds.courier import Courier
from coordinator.rounds.ending import TOLD_AGAIN, still_open, tell_end
from coordinator.rounds.errors import RunFailed
from shared.errors import StorageError, TouchstoneError

POLL_S = 0.25
RETRY_S = 10.0
"""Pause before a run is taken up again that the disk, full or read-only, did not let go on."""

_log = structlog.get_logger("runs")


class Supervisor:
    """One thread that brings every unfinished run to its end.

    Runs go one at a time: a member answers one instruction at a time, and two runs over the same
    data at once would charge its budget without its person having seen the first one's result.

    Args:
        directory: the coordinator's state folder.
        database: open, shared with the service.
        grid: the alliance grid.
        retry_s: pause after the disk refused a write.
    """

    def __init__(
        self, directory: Path, database: Database, grid: AllianceGrid, *, retry_s: float = RETRY_S
    ) -> None:
        self._dir = directory
        self._db = database
        self._grid = grid
        self._retry_s = retry_s
        self._told_again = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)

    def start(self) -> None:
        """Begin to look for runs."""
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next safe point; an open run goes on when the service is back."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            if not self._told_again:
                self._told_again = self._tell_again()
            run = self._next()
            if run is None:
                self._stop.wait(POLL_S)
            else:
                self._drive(run)

    def _tell_again(self) -> bool:
        """Tell members of the runs that ended before this process began; false to try later."""
        try:
            ended = self._db.read("ended_runs", lambda unit: unit.runs.ended())
        except TouchstoneError as error:
            _log.warning("runs cannot be read", code=error.code)
            return False
        for run in ended[-TOLD_AGAIN:]:
            self._tell_end(run)
        return True

    def _tell_end(self, run: Run) -> None:
        """Tell the members that a run lists that it is over, if it is and has not expired."""
        now = self._db.clock.now()
        try:
            key = load_signing_key(self._dir).public_key().public_bytes_raw()
            verified = still_open(run, key, now)
            if verified is None:
                return
            run_id = verified.manifest.run_id
            courier = Courier(self._grid.for_run(run_flower_id(run_id)))
            listed = {member.index for member in verified.manifest.members}
            tell_end(courier, verified, listed, bytes.fromhex(run.release_id or ""), now)
        except TouchstoneError as error:
            _log.warning("members not told of a run's end", run=run.run_id, code=error.code)

    def _next(self) -> Run | None:
        try:
            unfinished = self._db.read("next_run", lambda unit: unit.runs.unfinished())
        except TouchstoneError as error:
            _log.warning("runs cannot be read", code=error.code)
            return None
        return unfinished[0] if unfinished else None

    def _drive(self, run: Run) -> None:
        run_id = bytes.fromhex(run.run_id)
        config = {"state-dir": str(self._dir), "run-id": run.run_id}
        context = Context(run_flower_id(run_id), 0, {}, RecordDict(), config)
        grid = self._grid.for_run(context.run_id)
        try:
            stop_with(run.run_id, self._stop)
            app(grid, context)
        except StorageError as error:
            # Everything up to the last write is on disk: the run goes on when the disk does.
            _log.warning("run waits for the disk", run=run.run_id, reason=error.message)
            self._stop.wait(self._retry_s)
            self._tell_if_over(run.run_id)
        except RunFailed as error:
            self._fail(run, error.reason, error.message)
        except TouchstoneError as error:
            _log.warning("run failed", run=run.run_id, code=error.code, reason=error.message)
            self._fail(run, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - a run must not take the service down
            _log.exception("run failed", run=run.run_id)
            self._fail(run, "internal", f"unexpected {type(error).__name__}; see coordinator.log")

    def _fail(self, run: Run, code: str, text: str) -> None:
        """Give a run its terminal state, unless it has one or the disk does not let us."""

        def work(unit: Unit) -> None:
            current = unit.runs.get(run.run_id)
            if not current.state.terminal:
                unit.runs.advance(
                    run.run_id, RunState.FAILED, self._db.clock.now(), reason_code=code, reason=text
                )
                body = {"run_id": run.run_id, "state": "failed", "reason_code": code}
                unit.audit.append("run.state", body)

        try:
            self._db.write("fail_run", work)
        except TouchstoneError as error:
            _log.warning("run state not written", run=run.run_id, code=error.code)
            self._stop.wait(self._retry_s)
        self._tell_if_over(run.run_id)

    def _tell_if_over(self, run_id: str) -> None:
        """Tell members of a run whose own driver did not come to it, if it has ended."""
        try:
            self._tell_end(self._db.read("read_run", lambda unit: unit.runs.get(run_id)))
        except TouchstoneError as error:
            _log.warning("members not told of a run's end", run=run_id, code=error.code)
