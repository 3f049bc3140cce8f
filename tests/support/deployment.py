"""A member whose records are easy to reason about, and releases that are good or bad for it.

A record has one of many rare marks, which tell its class, and some noise. Nobody sees most marks
in training, so a model that knows them all beats whatever the member learns alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from coordinator.db import Database
from participant.deployment.active import active_model
from participant.deployment.evidence import TrainingSets
from participant.deployment.outcome import DeploymentOutcome
from participant.deployment.service import Deployer
from participant.node.registry_client import channel_factory
from participant.store import Store
from participant.training.dataset import TrainingSet
from shared.clock import Clock, FixedClock
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec, init_vector
from tests.support.alliance import Alliance, found_alliance
from tests.support.registry import release, serving
from tests.support.release import AT, a_draft

SPEC = ModelSpec(hash_bits=12, embed_dim=2, hidden=2)
MARKS = 300
NOISE = 200
OWN_MARK = 2 * MARKS + NOISE


def records(
    rows: int = 400, *, positive: float = 0.4, own: float = 0.0, seed: int = 0
) -> TrainingSet:
    """Return labelled records.

    Args:
        rows: how many.
        positive: share of counterfeits.
        own: share of counterfeits that also bear a mark no other member knows.
        seed: of everything.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    labels = (generator.random(rows) < positive).astype(np.int8)
    marks = generator.integers(0, MARKS, rows) + MARKS * labels.astype(np.int64)
    noise = 2 * MARKS + generator.integers(0, NOISE, (rows, 3))
    known_here = (generator.random(rows) < own) & (labels == 1)
    noise[known_here, 0] = OWN_MARK
    ids = np.concatenate([marks[:, None], noise], axis=1).astype(np.int32)
    batch = FeatureBatch(
        ids=ids.ravel(),
        weights=np.ones(ids.size, dtype=np.float32),
        offsets=np.arange(0, ids.size + 1, 4, dtype=np.int64),
    )
    groups = [f"seller-{number}" for number in range(rows)]
    return TrainingSet.from_features(SPEC, batch, labels, groups=groups)


def sets_of(training_set: TrainingSet) -> TrainingSets:
    """Return the member's records whatever kind and model are asked for."""
    return lambda _kind, _spec: training_set


def knowing(share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a model that knows ``share`` of the marks; -1 takes every one for its opposite."""
    vector = init_vector(SPEC, seed)
    known = np.random.Generator(np.random.Philox(seed)).random(2 * MARKS) < abs(share)
    sign = np.repeat([-1.0, 1.0], MARKS) * np.sign(share)
    vector[SPEC.slices.wide][: 2 * MARKS] = np.where(known, 3 * sign, 0)
    return vector


@dataclass
class Member:
    """One member of a real alliance, with records in memory."""

    alliance: Alliance
    database: Database
    folder: Path
    clock: Clock

    def deployer(self, training_set: TrainingSet | None = None) -> Deployer:
        """Return what decides about this member's models."""
        sets = sets_of(records() if training_set is None else training_set)
        return Deployer(self.folder, clock=self.clock, sets=sets)

    def deploy(
        self, release_id: bytes, training_set: TrainingSet | None = None, **options: Any
    ) -> DeploymentOutcome:
        """Deploy a release that the alliance's registry serves."""
        factory = channel_factory(self.folder)
        return self.deployer(training_set).deploy(release_id, factory, **options)

    def publish(self, number: int, vector: np.ndarray, kind: str = "listing") -> bytes:
        """Let the coordinator release ``vector`` as the outcome of its n-th run."""
        draft = replace(a_draft(number, SPEC, vector=vector), kind=kind)
        return release(self.alliance, self.database, draft)

    def kinds_of_events(self) -> list[str]:
        """Return the kinds of all events in the member's audit log, in order."""
        store = Store.open(self.folder)
        try:
            store.audit.verify()
            return [event.kind for event in store.audit.events()]
        finally:
            store.close()

    def decisions(self) -> list[tuple[str, str, str]]:
        """Return (release, action, reason) of every decision in the deployment table."""
        store = Store.open(self.folder)
        try:
            rows = store.deployments.history()
            return [(row.release_id, row.action, row.reason) for row in rows]
        finally:
            store.close()


def member_of(alliance: Alliance, name: str) -> Member:
    """Return one of the alliance's members."""
    return Member(alliance, alliance.database(), alliance.dir_of(name), FixedClock(AT))


@contextmanager
def served_member(tmp_path: Path) -> Iterator[Member]:
    """Found an alliance of one member, and serve its registry while the body runs."""
    member = member_of(found_alliance(tmp_path, ["a"]), "a")
    with serving(member.alliance, member.database):
        yield member
    member.database.close()


def running(member: Member) -> str | None:
    """Return what the member scores with: a release's id, the local model's name, or nothing."""
    model = active_model(member.folder)
    return None if model is None else model.release_id


def flip(path: Path, at: int = -1) -> bytes:
    """Flip one bit of a file; return what it was before."""
    data = path.read_bytes()
    changed = bytearray(data)
    changed[at] ^= 1
    path.write_bytes(changed)
    return data


class NoNetwork:
    """A channel factory for tests that must not use the network; counts attempts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> grpc.Channel:
        self.calls += 1
        raise AssertionError("the network was used")
