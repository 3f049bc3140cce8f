"""Gives a run in groups its manifest: the groups are drawn with the members, then it is signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.serverapp import Grid

from coordinator.db import Database, Unit
from coordinator.db.records import RunState
from coordinator.enrolment.service import roster
from coordinator.rounds.book import RunBook
from coordinator.rounds.courier import Courier
from coordinator.rounds.drawing import GroupDraw
from coordinator.rounds.errors import RunAborted, RunFailed, RunStopped
from coordinator.rounds.plan import RunSettings, build_manifest
from shared.trust.manifest import sign_manifest


def prepare(
    directory: Path,
    database: Database,
    grid: Grid,
    *,
    signing_key: Ed25519PrivateKey,
    run_id: bytes,
    stopping: Callable[[], bool],
) -> bool:
    """Make sure that a run has its manifest; return whether it has one now.

    Args:
        directory: the coordinator's state folder.
        database: open.
        grid: the alliance grid; a run in groups needs one whose node ids are roster indices.
        signing_key: the coordinator's.
        run_id: 16 bytes, a run in the database.
        stopping: true once the process is shutting down.
    """
    book = RunBook(database, run_id)
    run = book.run()
    if run.manifest or run.state.terminal:
        return bool(run.manifest)

    def check_stop() -> None:
        if stopping():
            raise RunStopped("the coordinator is shutting down")
        if book.run().state is RunState.ABORTED:
            raise RunAborted("the operator aborted the run")

    settings, current = RunSettings.model_validate(run.params), roster(database)
    courier = Courier(grid, check_stop)
    draw = GroupDraw(directory, current, settings, key=signing_key, courier=courier, book=book)
    book.advance(RunState.SETUP)
    try:
        drawn = draw.result()
        now = database.clock.now()
        manifest = build_manifest(settings, current, signing_key, run_id, now, drawn)
    except (RunStopped, RunAborted):
        return False
    except RunFailed as error:
        book.advance(RunState.FAILED, error.reason, error.message)
        return False

    def work(unit: Unit) -> None:
        unit.runs.set_manifest(run.run_id, sign_manifest(manifest, signing_key))
        body = {"run_id": run.run_id, "manifest_sha256": manifest.hash().hex()}
        unit.audit.append("run.manifest", body)

    database.write("sign_manifest", work)
    return True
