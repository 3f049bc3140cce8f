"""The Flower ServerApp: drives one run on whatever grid it is given.

`serve` calls it on the alliance grid; `flwr run` calls it on a SuperLink or the simulation engine.
Its run config names the coordinator's folder (``state-dir``) and the run (``run-id``).
"""

from __future__ import annotations

import threading
from pathlib import Path

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator.db import Database
from coordinator.enrolment.files import load_signing_key
from coordinator.rounds.context import RunContext
from coordinator.rounds.prepare import prepare
from coordinator.rounds.run import RunDriver
from shared.errors import ConfigError

app = ServerApp()

_stops: dict[str, threading.Event] = {}


def run_flower_id(run_id: bytes) -> int:
    """Return the run id that Flower's messages carry: the first 63 bits of ours."""
    return int.from_bytes(run_id[:8], "big") >> 1


def stop_with(run_id: str, stop: threading.Event) -> None:
    """Let ``stop`` interrupt the run at its next safe point; it is resumed by another call."""
    _stops[run_id] = stop


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Bring the run to its terminal state.

    Raises:
        ConfigError: the run config does not name a folder and a run.
        RunFailed: the stored manifest cannot be used.
    """
    folder, run_id = (context.run_config.get(name) for name in ("state-dir", "run-id"))
    if not isinstance(folder, str) or not isinstance(run_id, str):
        raise ConfigError(
            "the run config names no state-dir and run-id",
            hint='flwr run . --run-config \'state-dir="DIR" run-id="ID"\'',
        )
    stop = _stops.get(run_id)
    database = Database.open(Path(folder))
    try:
        _bring_to_end(Path(folder), database, grid, bytes.fromhex(run_id), stop)
    finally:
        _stops.pop(run_id, None)
        database.close()


def _bring_to_end(
    folder: Path, database: Database, grid: Grid, run_id: bytes, stop: threading.Event | None
) -> None:
    key = load_signing_key(folder)
    stopping = stop.is_set if stop else lambda: False
    if prepare(folder, database, grid, signing_key=key, run_id=run_id, stopping=stopping):
        run = RunContext(folder, database, grid, signing_key=key, run_id=run_id, stopping=stopping)
        RunDriver(run).execute()
