"""Collects what the rules of consent want to know of this node."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.consent import Facts, Said
from participant.node.drawings import drawn_of
from participant.node.learner import NO_DATA, DataFacts
from participant.node.peers import Peers
from participant.privacy.projection import Spent
from participant.store import Store
from participant.store.registers import charge_of
from shared.domain.vocabulary import SCHEMA_VERSION
from shared.errors import TouchstoneError
from shared.limits import MIN_GROUP
from shared.model.layout import ModelSpec, feature_space_hash
from shared.trust.manifest import RunManifest


def facts_for(
    state_dir: Path,
    store: Store,
    manifest: RunManifest,
    known: DataFacts = NO_DATA,
    *,
    said: Said,
    now: datetime,
    privacy_delta: float,
    smallest_group: int = MIN_GROUP,
) -> Facts:
    """Return the facts that decide about one manifest.

    Whatever a signed manifest says, this costs little: what is slow to work out is worked out by
    the rule that asks for it.

    Args:
        state_dir: the member's state folder.
        store: its open store.
        manifest: what is asked; its model names the feature space to hold against.
        known: of the data, in the form that training would use; left out for rules that do not
            ask about it.
        said: what a person here has said about the manifest.
        now: current time.
        privacy_delta: the policy's delta, at which everything spent is composed.
        smallest_group: to be summed in.
    """
    peers, index = Peers(state_dir), NodeConfig.load(state_dir).member.index
    return Facts(
        index=index,
        roster=peers.roster(),
        pinned=peers.pinned_among(manifest.members),
        rows=known.rows,
        smallest_class=known.smallest_class,
        contract_holds=known.contract_holds,
        epsilon_spent=_evaluations_elsewhere(store, manifest.run_id),
        spent=_spent(store, manifest.run_id),
        privacy_delta=privacy_delta,
        group_size=_group_size(manifest, index),
        drawn=drawn_of(state_dir / "secsum", manifest.roster_hash),
        smallest_group=smallest_group,
        feature_space=_feature_space(manifest),
        schema_version=SCHEMA_VERSION,
        now=now,
        said=said,
    )


def _evaluations_elsewhere(store: Store, run_id: bytes) -> float:
    """Return evaluation epsilon spent in other runs; this one is projected whole."""
    rows = [row for row in store.ledger.entries() if row.run_id != run_id.hex()]
    return sum(row.amount for row in rows if row.kind == "evaluation")


def _spent(store: Store, run_id: bytes) -> Spent:
    rows = store.ledger.entries()
    here = [row for row in rows if row.run_id == run_id.hex()]
    return Spent(
        elsewhere=tuple(charge_of(row) for row in rows if row.run_id != run_id.hex()),
        here=tuple(map(charge_of, here)),
        begun=max((row.round for row in here), default=0),
    )


def _group_size(manifest: RunManifest, index: int) -> int:
    if not manifest.grouped or all(member.index != index for member in manifest.members):
        return 0
    return len(manifest.peers_of(manifest.group_of(index)))


def _feature_space(manifest: RunManifest) -> bytes:
    """Return the hash of the feature space here; empty, and so no run's, of an unknown model."""
    try:
        return feature_space_hash(ModelSpec.decode(manifest.model_spec))
    except TouchstoneError:
        return b""
