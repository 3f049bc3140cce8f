"""A small, sound run manifest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.trust.manifest import (
    EvaluationTerms,
    RunManifest,
    SecureSumTerms,
    Timeouts,
    TrainingTerms,
)
from shared.trust.roster import RosterEntry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPACE = b"f" * 32


def entries(count: int) -> tuple[RosterEntry, ...]:
    """Return members 1 to ``count``, each with a key of its own."""
    return tuple(RosterEntry(i, f"m{i}", bytes([i]) * 32) for i in range(1, count + 1))


def a_manifest(**changes: Any) -> RunManifest:
    """Return a manifest of five members, t = 4, n_min = 4, m = 1."""
    fields: dict[str, Any] = {
        "alliance_id": b"a" * 16,
        "run_id": b"r" * 16,
        "purpose": "counterfeit-detection",
        "kind": "listing",
        "rounds": 10,
        "roster_epoch": 5,
        "roster_hash": b"h" * 32,
        "members": entries(5),
        "coordinator_key": b"c" * 32,
        "model_spec": b"spec",
        "feature_space": SPACE,
        "schema_version": 1,
        "initial_model": b"m" * 32,
        "epsilon_floor_milli": 0,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=72),
        "secure_sum": SecureSumTerms(4, 4, 1),
        "training": TrainingTerms(),
        "evaluation": EvaluationTerms(),
        "timeouts": Timeouts(),
    }
    return RunManifest(**{**fields, **changes})
