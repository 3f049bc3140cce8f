"""A node's two models, read from its own folder, and what they say of fresh records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from participant.deployment.active import LoadedModel, verify_release
from participant.deployment.evidence import training_sets
from participant.deployment.fetch import installed_path
from participant.deployment.local_model import FOLDER, LocalModel
from participant.deployment.state import read_state
from participant.scoring.batch import score_frame
from participant.store import Store
from shared.errors import NotFound
from shared.model.bundle import UnverifiedBundle
from shared.model.layout import ModelSpec
from simulations.demo.alliance import Member

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Decision:
    """What a node decided about the release, by its own rule.

    Attributes:
        federated: whether the alliance's model runs now.
        reason: stable reason code.
        metrics: its hold-out figures.
    """

    federated: bool
    reason: str
    metrics: Mapping[str, object]


def decision(member: Member) -> Decision:
    """Return what the node decided; raises :class:`NotFound` before it did."""
    active = read_state(member.folder / "models").active
    if active is None:
        raise NotFound(f"nothing runs at {member.name}")
    return Decision(active.sequence > 0, active.reason, active.metrics)


def federated_model(member: Member, release_id: str) -> LoadedModel:
    """Return the release as the node fetched it, verified again."""
    release = bytes.fromhex(release_id)
    bundle = UnverifiedBundle.read(installed_path(member.folder, release))
    verified = verify_release(member.folder, bundle, release)
    return LoadedModel(verified.spec, verified.vector, None, release_id, verified.manifest.kind)


def local_model(member: Member) -> LoadedModel:
    """Return the node's own local-only model, tuned by itself when it judged the release.

    Raises:
        NotFound: the node had nothing to train one on.
    """
    found = sorted((member.folder / "models" / FOLDER).glob("*.model"))
    if not found:
        raise NotFound(f"{member.name} has no model of its own")
    model = LocalModel.decode(found[-1].read_bytes())
    return LoadedModel(model.spec, model.vector, None, "local", model.kind)


def scores_of(member: Member, model: LoadedModel, frame: pl.DataFrame, as_of: datetime) -> Scores:
    """Return float32[rows]: what the node's own scorer says with ``model``, uncalibrated."""
    store = Store.open(member.folder, create=False)
    try:
        scored = score_frame(
            frame,
            model,
            as_of=as_of,
            complaints=store.records.frame("complaints"),
            known=store.records.frame("listings"),
            top=0,
        )
    finally:
        store.close()
    risk: Scores = scored["risk"].to_numpy()
    return risk


def holdouts(members: Iterable[Member], kind: str, spec: ModelSpec) -> list[int]:
    """Return the rows of each node's hold-out, as the node itself cuts it."""
    found = []
    for member in members:
        store = Store.open(member.folder, create=False)
        try:
            found.append(training_sets(store)(kind, spec).part("holdout")[1].size)
        finally:
            store.close()
    return found
