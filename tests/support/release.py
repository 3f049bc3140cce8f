"""Small real releases: a 2**10-row model, its manifest, its bundle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db import Database, Unit
from coordinator.db.records import Alliance, Run, RunState
from coordinator.registry.models import ReleaseDraft
from shared.clock import FixedClock
from shared.model.bundle import seal_bundle
from shared.model.bundle_manifest import BundleManifest, metric_pairs
from shared.model.layout import ModelSpec, feature_space_hash, init_vector
from shared.trust.round_record import Outcome, RoundRecord
from shared.trust.transcript import Transcript, model_sha256

TINY = ModelSpec(hash_bits=10, embed_dim=1, hidden=1)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def a_manifest(spec: ModelSpec = TINY, **changes: object) -> BundleManifest:
    """Return a manifest for ``spec`` with every field filled."""
    manifest = BundleManifest(
        alliance_id=b"a" * 16,
        release_id=b"r" * 16,
        run_id=b"u" * 16,
        run_manifest_hash=b"m" * 32,
        kind="listing",
        model_spec=spec.encode(),
        feature_space_hash=feature_space_hash(spec),
        weights_sha256=bytes(32),
        transcript_head=b"t" * 32,
        rounds=10,
        sequence=3,
        parent_release_id=b"p" * 16,
        metrics=metric_pairs({"pr_auc": 0.713, "roc_auc": 0.95}),
        epsilon="8.000000",
        created_at=1_700_000_000,
    )
    return replace(manifest, **changes)


def a_vector(spec: ModelSpec = TINY, seed: int = 7) -> np.ndarray:
    """Return a model with no zero part."""
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal(spec.n_params)
    return init_vector(spec, seed) + np.float32(0.01) * noise.astype(np.float32)


def a_bundle(spec: ModelSpec = TINY, key: Ed25519PrivateKey = KEY, **changes: object) -> bytes:
    """Return a sealed bundle."""
    return seal_bundle(a_manifest(spec, **changes), a_vector(spec), key)


def a_record(round_number: int, **changes: object) -> RoundRecord:
    """Return the record of a round of five in which member 4 was lost."""
    alive = (1, 2, 3, 5)
    record = RoundRecord(
        round=round_number,
        attempt=1,
        session_id=b"s" * 16,
        ordinal=1,
        slot=round_number - 1,
        t2=bytes([round_number]) * 32,
        participants=(1, 2, 3, 4, 5),
        survivors=alive,
        vectors=tuple((index, bytes([index, round_number] * 16)) for index in alive),
        certificate=tuple((index, bytes([index]) * 64) for index in alive),
        outcome=Outcome.SUMMED,
        sum_sha256=bytes([100 + round_number]) * 32,
        model_sha256=bytes([10 + round_number]) * 32,
        next_model_sha256=bytes([11 + round_number]) * 32,
        setup_sha256=b"S" * 32,
        evidence_sha256=bytes([20 + round_number]) * 32,
    )
    return replace(record, **changes)


def a_transcript(rounds: int = 3) -> Transcript:
    """Return the transcript of a short run."""
    transcript = Transcript.start(b"u" * 16, b"m" * 32)
    for number in range(1, rounds + 1):
        transcript = transcript.append(a_record(number))
    return transcript


ALLIANCE_ID = b"a" * 16
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def a_coordinator(folder: Path, runs: int = 2) -> Database:
    """Return the database of an alliance in ``folder`` whose runs wait to be released."""
    database = Database.open(folder, clock=FixedClock(AT), create=True)
    alliance = Alliance(ALLIANCE_ID.hex(), "test", "localhost", 7443, 7444, "aa", AT)

    def fill(unit: Unit) -> None:
        unit.alliance.found(alliance)
        for number in range(1, runs + 1):
            unit.runs.add(Run(run_id(number).hex(), AT, 3, RunState.RELEASING))

    database.write("found", fill)
    return database


def run_id(number: int) -> bytes:
    """Return the id of the test coordinator's n-th run."""
    return bytes([number]) * 16


def a_draft(
    number: int = 1, spec: ModelSpec = TINY, seed: int = 7, vector: np.ndarray | None = None
) -> ReleaseDraft:
    """Return what the n-th run releases: three rounds that end in ``vector``."""
    vector = a_vector(spec, seed) if vector is None else vector
    transcript = Transcript.start(run_id(number), b"m" * 32)
    transcript = transcript.append(a_record(1)).append(a_record(2))
    return ReleaseDraft(
        run_id=run_id(number),
        run_manifest_hash=b"m" * 32,
        kind="listing",
        spec=spec,
        vector=vector,
        transcript=transcript.append(a_record(3, next_model_sha256=model_sha256(vector))),
        metrics={"pr_auc": 0.7},
    )
