"""Beginning and ending runs on the operator's word."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import structlog

from coordinator.db import Database, Unit
from coordinator.db.records import Run, RunState
from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.service import roster
from coordinator.rounds.plan import (
    RunSettings,
    build_manifest,
    choose_members,
    planned_groups,
    secure_sum_terms,
)
from shared.limits import MIN_GROUP
from shared.trust.manifest import sign_manifest

_log = structlog.get_logger("runs")


def start_run(directory: Path, database: Database, settings: RunSettings) -> str:
    """Write a pending run with its signed manifest; `serve` takes it up. Return its id, hex.

    A run in groups has no manifest yet: `serve` draws the groups first.

    Raises:
        BadInput: the members chosen fit no number of groups.
        StateError: they are too few.
        NotFound: one is unknown, or no alliance has been founded here.
    """
    key, now, run_id = load_signing_key(directory), database.clock.now(), secrets.token_bytes(16)
    current = roster(database)
    members = choose_members(settings, current)
    count = planned_groups(settings, len(members))
    if settings.unsafe_min_group < MIN_GROUP:
        _log.warning("unsafe_min_group: groups too small to protect members", run=run_id.hex())
    signed, digest = b"", ""
    if count == 1:
        manifest = build_manifest(settings, current, key, run_id, now)
        signed, digest = sign_manifest(manifest, key), manifest.hash().hex()
    else:
        secure_sum_terms(settings, -(-len(members) // count))
    run = Run(
        run_id=run_id.hex(),
        created_at=now,
        rounds=settings.rounds,
        params=settings.model_dump(mode="json"),
        manifest=signed,
    )

    def work(unit: Unit) -> None:
        unit.runs.add(run)
        body: dict[str, Any] = {
            "run_id": run.run_id,
            "purpose": settings.purpose,
            "members": [member.index for member in members],
            "groups": count,
            "manifest_sha256": digest,
        }
        if settings.unsafe_min_group < MIN_GROUP:
            body["unsafe_min_group"] = settings.unsafe_min_group
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
