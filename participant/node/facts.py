"""Collects what the rules of consent want to know of this node."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.consent import Facts, Said
from participant.node.learner import DataFacts
from participant.node.peers import Peers
from participant.privacy.projection import Projection, project
from participant.store import Store
from shared.domain.vocabulary import SCHEMA_VERSION
from shared.model.layout import ModelSpec, feature_space_hash
from shared.trust.manifest import RunManifest


def facts_for(
    state_dir: Path,
    store: Store,
    manifest: RunManifest,
    known: DataFacts,
    *,
    said: Said,
    now: datetime,
    privacy_delta: float,
) -> Facts:
    """Return the facts that decide about one manifest.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        manifest: what is asked; its model names the feature space to hold against.
        known: of the data, in the form that training would use.
        said: what a person here has said about the manifest.
        now: current time.
        privacy_delta: the policy's delta, at which everything spent is composed.
    """
    peers = Peers(state_dir)
    return Facts(
        index=NodeConfig.load(state_dir).member.index,
        roster=peers.roster(),
        pinned=peers.pinned_among(manifest.members),
        rows=known.rows,
        smallest_class=known.smallest_class,
        contract_holds=known.contract_holds,
        epsilon_spent=_evaluations_elsewhere(store, manifest.run_id),
        privacy=_projection(store, manifest, privacy_delta),
        feature_space=feature_space_hash(ModelSpec.decode(manifest.model_spec)),
        schema_version=SCHEMA_VERSION,
        now=now,
        said=said,
    )


def _evaluations_elsewhere(store: Store, run_id: bytes) -> float:
    """Return evaluation epsilon spent in other runs; this one is projected whole."""
    rows = [row for row in store.ledger.entries() if row.run_id != run_id.hex()]
    return sum(row.amount for row in rows if row.kind == "evaluation")


def _projection(store: Store, manifest: RunManifest, delta: float) -> Projection | None:
    if not manifest.private:
        return None
    return project(manifest, store.ledger.charges(without=manifest.run_id.hex()), delta)
