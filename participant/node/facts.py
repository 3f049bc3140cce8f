"""Collects what the rules of consent want to know of this node."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.consent import Facts, Said
from participant.node.learner import DataFacts
from participant.node.peers import Peers
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
) -> Facts:
    """Return the facts that decide about one manifest.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        manifest: what is asked; its model names the feature space to hold against.
        known: of the data, in the form that training would use.
        said: what a person here has said about the manifest.
        now: current time.
    """
    peers = Peers(state_dir)
    return Facts(
        index=NodeConfig.load(state_dir).member.index,
        roster=peers.roster(),
        pinned=peers.pinned_indices(),
        rows=known.rows,
        smallest_class=known.smallest_class,
        epsilon_spent=_epsilon_elsewhere(store, manifest.run_id),
        feature_space=feature_space_hash(ModelSpec.decode(manifest.model_spec)),
        schema_version=SCHEMA_VERSION,
        now=now,
        said=said,
    )


def _epsilon_elsewhere(store: Store, run_id: bytes) -> float:
    """Return evaluation epsilon spent in other runs; this one is projected whole."""
    return store.ledger.total()[0] - store.ledger.total(run_id.hex())[0]
