"""A member's labelled records, as features, split once and kept in memory for a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from participant.training.known import Table, groups_of, known_records, times_of
from participant.training.matrix import SubMatrix, to_csr, touched_part
from participant.training.split import NO_TIME, Split, SplitPolicy, split_records
from shared.domain.schemas import empty_frame
from shared.model.features.batch import FeatureBatch
from shared.model.features.build import build_features
from shared.model.features.history import History
from shared.model.layout import ModelSpec

Part = Literal["train", "calibration", "holdout"]


@dataclass(frozen=True)
class TrainingSet:
    """Labelled records of one member.

    Attributes:
        spec: the model whose hashed space the features are in.
        matrix: float32 CSR [n, spec.rows].
        labels: int8[n], 1 is counterfeit (or a fraudulent shop).
        confidence: float32[n], weight of each record in the training loss, in (0, 1].
        groups: the seller of each record.
        times: int64[n], seconds since 1970, -1 if unknown.
        split: which records train, calibrate and judge.
    """

    spec: ModelSpec
    matrix: csr_matrix = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    confidence: NDArray[np.float32] = field(repr=False)
    groups: list[str] = field(repr=False)
    times: NDArray[np.int64] = field(repr=False)
    split: Split = field(repr=False)

    @classmethod
    def from_records(
        cls,
        kind: Table,
        frame: pl.DataFrame,
        *,
        spec: ModelSpec,
        as_of: datetime,
        complaints: pl.DataFrame | None = None,
        verdicts: pl.DataFrame | None = None,
        older: pl.DataFrame | None = None,
        policy: SplitPolicy | None = None,
    ) -> TrainingSet:
        """Derive labels and features of a member's canonical records.

        Args:
            kind: what ``frame`` holds. A shop carries its own label.
            frame: canonical listings or shops; unlabelled ones are left out.
            spec: the model.
            as_of: the moment; labels, complaints and ages are those known then.
            complaints: canonical complaints about the listings.
            verdicts: canonical verdicts on the listings.
            older: former versions of the listings, in order of arrival: each is looked at as it
                was at the moment it is judged.
            policy: shares of the split.
        """
        complaints = empty_frame("complaints") if complaints is None else complaints
        verdicts = empty_frame("verdicts") if verdicts is None else verdicts
        known = known_records(kind, frame, complaints, verdicts, as_of, older)
        features = build_features(
            known,
            kind,
            hash_bits=spec.hash_bits,
            as_of=known["judged_at"],
            history=History(frame, complaints) if kind == "listings" else None,
            compact=spec.linear,
        )
        return cls.from_features(
            spec,
            features,
            known["label"].to_numpy(),
            confidence=known["confidence"].to_numpy(),
            groups=groups_of(kind, known),
            # A cut at a quantile of time moves with every record; under differential privacy one
            # record must not decide where another belongs, so the compact model's are split by
            # seller alone.
            times=None if spec.linear else times_of(kind, known),
            policy=policy,
        )

    @classmethod
    def from_features(
        cls,
        spec: ModelSpec,
        features: FeatureBatch,
        labels: NDArray[np.int8],
        *,
        groups: list[str],
        confidence: NDArray[np.float32] | None = None,
        times: NDArray[np.int64] | None = None,
        policy: SplitPolicy | None = None,
    ) -> TrainingSet:
        """Build a set from features made elsewhere; shapes as in the attributes."""
        count = features.rows
        if len(labels) != count or len(groups) != count:
            raise ValueError("features, labels and groups must be of one length")
        times = np.full(count, NO_TIME, dtype=np.int64) if times is None else times
        confidence = np.ones(count, dtype=np.float32) if confidence is None else confidence
        return cls(
            spec,
            to_csr(features, spec.rows),
            np.asarray(labels, dtype=np.int8),
            np.asarray(confidence, dtype=np.float32),
            groups,
            times,
            split_records(groups, times, policy),
        )

    @property
    def rows(self) -> int:
        """Labelled records, in all parts and in none."""
        return int(self.labels.size)

    @property
    def train_rows(self) -> int:
        """Records that train: the member's weight in the sum."""
        return int(self.split.train.size)

    def part(self, name: Part) -> tuple[csr_matrix, NDArray[np.int8]]:
        """Return features and labels of one part of the split."""
        index = getattr(self.split, name)
        return self.matrix[index], self.labels[index]

    def class_counts(self, name: Part) -> tuple[int, int]:
        """Return the number of negatives and of positives in a part."""
        labels = self.labels[getattr(self.split, name)]
        positives = int(labels.sum())
        return int(labels.size) - positives, positives

    @cached_property
    def train_part(self) -> SubMatrix:
        """The training records over the rows of the table that they touch."""
        return touched_part(self.matrix[self.split.train])
