"""The member's own records as evidence.

Each part has one task: the training part trains, the calibration part chooses between settings,
fits a personal head and calibrates, and the hold-out alone decides what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from participant.deployment.acceptance import (
    LOCAL,
    RUNNING,
    Duel,
    HeadReason,
    HeadTrial,
    Reason,
    Rule,
    Unseen,
    Verdict,
    judge,
    try_head,
)
from participant.deployment.active import MODELS, LoadedModel
from participant.deployment.candidate import Candidate
from participant.deployment.local_model import is_fit, own_model
from participant.store import Store
from participant.training.baseline import trainable
from participant.training.calibration import Calibration, calibrate
from participant.training.dataset import TrainingSet
from participant.training.inference import scores
from participant.training.known import spoken_of
from participant.training.local import NothingToTrain
from participant.training.personal import fit_head
from shared.errors import NotFound
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
            complaints, verdicts = records.frame("complaints"), records.frame("verdicts")
            told = spoken_of(complaints, verdicts)
            built[kind, spec] = TrainingSet.from_records(
                table,
                records.frame(table),
                spec=spec,
                as_of=store.clock.now(),
                complaints=complaints,
                verdicts=verdicts,
                older=records.older(table, told) if table == "listings" else None,
            )
        return built[kind, spec]

    return read


def kind_of_records(store: Store) -> str:
    """Return the kind a node without a model scores: shops if it has nothing but shops."""
    shops_only = store.records.count("shops") > 0 and store.records.count("listings") == 0
    return "shop" if shops_only else "listing"


def nothing_to_train() -> NotFound:
    """Return the error of a node that wants a local-only model and has no records for one."""
    return NotFound(
        "there are no labelled records to train a local model on",
        hint="import records and verdicts first",
    )


@dataclass(frozen=True)
class Judged:
    """A release, what the rule says of it, and what became of a personal head.

    Attributes:
        candidate: the release as it would run, with its head if that helps.
        verdict: of the rule on ``candidate``.
        trial: of the head.
    """

    candidate: Candidate
    verdict: Verdict
    trial: HeadTrial


class Evidence:
    """Judges and calibrates models of one kind on one member's records.

    Args:
        state_dir: the member's state folder, where its local-only model is kept.
        kind: ``listing`` or ``shop``.
        sets: the member's records, see :data:`TrainingSets`.
        rule: the member's own; the default one if left out.
        damaged: told the name of a local-only model that was fitted again because it was damaged.
    """

    def __init__(
        self,
        state_dir: Path,
        kind: str,
        sets: TrainingSets,
        rule: Rule | None = None,
        damaged: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._models = state_dir / MODELS
        self._kind = kind
        self._sets = sets
        self._rule = rule or Rule()
        self._damaged = damaged

    def local(self, spec: ModelSpec) -> Candidate | None:
        """Return the member's own local-only model, or None if it has nothing to train on."""
        try:
            records = self._sets(self._kind, spec)
            return own_model(self._models, records, self._kind, self._damaged)
        except NothingToTrain:
            return None

    def trainable(self, spec: ModelSpec) -> bool:
        """Tell whether there are records to train a local-only model of a shape on."""
        return trainable(self._sets(self._kind, spec))

    def fitted_as(self, spec: ModelSpec, path: str) -> bool:
        """Tell whether ``path`` is that of a model of these records, without fitting one."""
        return is_fit(path, self._sets(self._kind, spec), self._kind)

    def judge(self, release: Candidate, running: LoadedModel | None) -> Judged:
        """Hold a release against what runs and against the local-only model, on the hold-out.

        First a personal head is tried; if it helps, the release is judged with it. A node runs
        one model, so a release for another kind of record never replaces it here.
        """
        if running is not None and running.kind != release.kind:
            verdict = Verdict(accept=False, reason=Reason.OTHER_KIND)
            return Judged(release, verdict, HeadTrial(HeadReason.OFF))
        spec = release.spec
        candidate, trial = self._personalised(release)
        models: dict[str, LoadedModel | Candidate] = {}
        if running is not None:
            models[RUNNING] = running
        # The compact model of a private run is held against the best that the member has alone.
        local = self.local(ModelSpec() if spec.linear else spec)
        if local is not None:
            models[LOCAL] = local
        rows = self._unseen([spec, *(model.spec for model in models.values())], "holdout")
        rivals = {name: self._scores(model, rows) for name, model in models.items()}
        verdict = judge(
            self._sets(self._kind, spec).labels[rows],
            self._scores(candidate, rows),
            rivals,
            unseen=None if local is None else self._both(candidate, local),
            rule=self._rule,
        )
        return Judged(candidate, verdict, trial)

    def _both(self, release: Candidate, local: Candidate) -> Unseen | None:
        """Return what release and local-only model say of hold-out and calibration part.

        A personal head has trained on the calibration part; its scores there are those that
        cross-fitting gave, from heads that had not seen the record.
        """
        records = self._sets(self._kind, release.spec)
        rows = self._unseen([release.spec, local.spec], "holdout", "calibration")
        labels = records.labels[rows]
        if labels.size == 0 or labels.min() == labels.max():
            return None
        scored = self._scores(release, rows)
        if release.head is not None:
            calibration = records.split.calibration
            fitted = np.isin(rows, calibration)
            at = np.searchsorted(calibration, rows[fitted])
            scored[fitted] = expit(release.head.unseen[at])
        return Unseen(labels, scored, self._scores(local, rows))

    def _personalised(self, release: Candidate) -> tuple[Candidate, HeadTrial]:
        """Return the release with its head if that helps, else as it is, and the trial."""
        if not self._rule.personal:
            return release, HeadTrial(HeadReason.OFF)
        records = self._sets(self._kind, release.spec)
        fitted = fit_head(records, release.vector)
        if fitted is None:
            return release, HeadTrial(HeadReason.NOT_FITTED)
        personal = release.with_head(fitted)
        trial = try_head(
            records.part("holdout")[1],
            self._holdout_scores(release.spec, release.vector),
            self._holdout_scores(release.spec, personal.vector),
            fitted.head.setting,
            rule=self._rule,
        )
        return (personal if trial.helps else release), trial

    def calibration(self, candidate: Candidate) -> Calibration | None:
        """Return a model's calibration, or None if the split cannot tell (too small, one class).

        A personal head was fitted on the same records, so its scores of them are those it gave
        before it saw them.
        """
        spec = candidate.spec
        matrix, labels = self._sets(self._kind, spec).part("calibration")
        if candidate.head is not None:
            return calibrate(expit(candidate.head.unseen), labels)
        return calibrate(scores(spec, candidate.vector, matrix), labels)

    def _unseen(
        self, specs: Iterable[ModelSpec], *parts: Literal["holdout", "calibration"]
    ) -> NDArray[np.int64]:
        """Return the records that are in one of these parts for every model, ascending.

        The compact model's records are split by seller alone, others also by time.
        """
        found: NDArray[np.int64] | None = None
        for spec in set(specs):
            split = self._sets(self._kind, spec).split
            mine = np.sort(np.concatenate([getattr(split, part) for part in parts]))
            found = mine if found is None else np.intersect1d(found, mine)
        return np.empty(0, dtype=np.int64) if found is None else found

    def _scores(
        self, model: LoadedModel | Candidate, rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        matrix = self._sets(self._kind, model.spec).matrix[rows]
        return scores(model.spec, model.vector, matrix)

    def _holdout_scores(self, spec: ModelSpec, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores(spec, vector, self._sets(self._kind, spec).part("holdout")[0])


def figures(judged: Judged) -> dict[str, Any]:
    """Return a decision's figures as plain values, for the member's own log and screen."""
    verdict, trial = judged.verdict, judged.trial
    return {
        "rows": verdict.rows,
        "positives": verdict.positives,
        "pr_auc": verdict.pr_auc,
        "rivals": {one.rival: _plain(one) for one in verdict.duels},
        "head": {
            "reason": trial.reason.value,
            "setting": trial.setting,
            "bare": None if trial.duel is None else _plain(trial.duel),
        },
    }


def _plain(duel: Duel) -> dict[str, float]:
    return {
        "pr_auc": duel.pr_auc,
        "difference": duel.difference,
        "low": duel.low,
        "high": duel.high,
        "rival_wins": duel.rival_wins,
        "wins": duel.wins,
    }
