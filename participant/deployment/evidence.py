"""The member's own records as evidence: hold-out to judge on, calibration split to calibrate on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from participant.deployment.acceptance import LOCAL, RUNNING, Reason, Verdict, judge
from participant.deployment.active import MODELS, LoadedModel
from participant.deployment.candidate import Candidate
from participant.deployment.local_model import own_model
from participant.store import Store
from participant.training.calibration import Calibration, calibrate
from participant.training.dataset import TrainingSet
from participant.training.inference import scores
from participant.training.local import NothingToTrain
from shared.model.layout import ModelSpec

TrainingSets = Callable[[str, ModelSpec], TrainingSet]
"""Returns the member's labelled records of a kind in a model's feature space."""

_TABLES: dict[str, Literal["listings", "shops"]] = {"listing": "listings", "shop": "shops"}


def training_sets(store: Store) -> TrainingSets:
    """Return what reads a store's records as they are known now; each set is built once."""
    built: dict[tuple[str, ModelSpec], TrainingSet] = {}

    def read(kind: str, spec: ModelSpec) -> TrainingSet:
        if (kind, spec) not in built:
            table, records = _TABLES[kind], store.records
            listings = table == "listings"
            built[kind, spec] = TrainingSet.from_records(
                table,
                records.frame(table),
                spec=spec,
                as_of=store.clock.now(),
                complaints=records.frame("complaints") if listings else None,
                verdicts=records.frame("verdicts") if listings else None,
            )
        return built[kind, spec]

    return read


def kind_of_records(store: Store) -> str:
    """Return the kind a node without a model scores: shops if it has nothing but shops."""
    shops_only = store.records.count("shops") > 0 and store.records.count("listings") == 0
    return "shop" if shops_only else "listing"


class Evidence:
    """Judges and calibrates models of one kind on one member's records.

    Args:
        state_dir: the member's state folder, where its local-only model is kept.
        kind: ``listing`` or ``shop``.
        sets: the member's records, see :data:`TrainingSets`.
    """

    def __init__(self, state_dir: Path, kind: str, sets: TrainingSets) -> None:
        self._models = state_dir / MODELS
        self._kind = kind
        self._sets = sets

    def local(self, spec: ModelSpec) -> Candidate | None:
        """Return the member's own local-only model, or None if it has nothing to train on."""
        try:
            return own_model(self._models, self._sets(self._kind, spec), self._kind)
        except NothingToTrain:
            return None

    def judge(self, release: Candidate, running: LoadedModel | None) -> Verdict:
        """Hold a release against what runs and against the local-only model, on the hold-out.

        A node runs one model, so a release for another kind of record never replaces it here.
        """
        spec = release.spec
        if running is not None and running.kind != release.kind:
            return Verdict(accept=False, reason=Reason.OTHER_KIND)
        labels = self._sets(self._kind, spec).part("holdout")[1]
        rivals: dict[str, NDArray[np.float32]] = {}
        if running is not None:
            rivals[RUNNING] = self._holdout_scores(running.spec, running.vector)
        local = self.local(spec)
        if local is not None:
            rivals[LOCAL] = self._holdout_scores(spec, local.vector)
        return judge(labels, self._holdout_scores(spec, release.vector), rivals)

    def calibration(self, spec: ModelSpec, vector: NDArray[np.float32]) -> Calibration | None:
        """Return a model's calibration, or None if the split cannot tell (too small, one class)."""
        matrix, labels = self._sets(self._kind, spec).part("calibration")
        return calibrate(scores(spec, vector, matrix), labels)

    def _holdout_scores(self, spec: ModelSpec, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores(spec, vector, self._sets(self._kind, spec).part("holdout")[0])


def figures(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain values, for the member's own log and screen."""
    return {
        "rows": verdict.rows,
        "positives": verdict.positives,
        "pr_auc": verdict.pr_auc,
        "rivals": {
            duel.rival: {
                "pr_auc": duel.pr_auc,
                "difference": duel.difference,
                "low": duel.low,
                "high": duel.high,
                "rival_wins": duel.rival_wins,
            }
            for duel in verdict.duels
        },
    }
