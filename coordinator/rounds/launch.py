"""Beginning and ending runs on the operator's word."""

from __future__ import annotations

import secrets
from pathlib import Path

from coordinator.db import Database, Unit
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.service import roster
from coordinator.rounds.plan import RunSettings, build_manifest
from shared.trust.manifest import sign_manifest


def start_run(directory: Path, database: Database, settings: RunSettings) -> str:
    """Write a pending run with its signed manifest; `serve` takes it up. Return its id, hex.

    Raises:
        BadInput: the members chosen are too few, too many or unknown.
        NotFound: no alliance has been founded here.
    """
    key, now, run_id = load_signing_key(directory), database.clock.now(), secrets.token_bytes(16)
    manifest = build_manifest(settings, roster(database), key, run_id, now)
    run = Run(
        run_id=run_id.hex(),
        created_at=now,
        rounds=settings.rounds,
        params=settings.model_dump(mode="json"),
        manifest=sign_manifest(manifest, key),
    )

    def work(unit: Unit) -> None:
        unit.runs.add(run)
        body = {
            "run_id": run.run_id,
            "purpose": settings.purpose,
            "members": [member.index for member in manifest.members],
            "manifest_sha256": manifest.hash().hex(),
        }
        unit.audit.append("run.started", body, actor="operator")

    database.write("start_run", work)
    return run.run_id


def abort_run(database: Database, run_id: str, reason: str) -> bool:
    """End a run; return False when it had ended already."""

    def work(unit: Unit) -> bool:
        run = unit.runs.get(run_id)
        if run.state.terminal:
            return False
        now = database.clock.now()
        unit.runs.advance(run_id, RunState.ABORTED, now, reason_code="operator", reason=reason)
        unit.audit.append("run.aborted", {"run_id": run_id, "reason": reason}, actor="operator")
        return True

    return database.write("abort_run", work)
