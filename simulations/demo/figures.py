"""How good two models are on one member's fresh listings, and what the alliance gains from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.model.metrics import pr_auc, precision_at_k, recall_at_precision, wilson_interval

Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]

CAPACITY = 100
"""Listings an analyst looks at: precision among the hundred riskiest."""

FALSE_POSITIVES = 0.02
"""Rate of false positives at which the recall on new tactics is read."""

NOTICE_PRECISION = 0.90


@dataclass(frozen=True)
class Quality:
    """One model on one member's fresh listings.

    Attributes:
        pr_auc: average precision.
        precision: share of counterfeits among the :data:`CAPACITY` riskiest.
        recall: share found at a precision of at least :data:`NOTICE_PRECISION`.
        new_found: counterfeits of tactics new to the member that score above the threshold which
            :data:`FALSE_POSITIVES` of the genuine listings exceed.
    """

    pr_auc: float
    precision: float
    recall: float
    new_found: int


@dataclass(frozen=True)
class MemberFigures:
    """One member, its own model beside the alliance's.

    Attributes:
        rows: fresh listings.
        counterfeit: of them, by the truth.
        new_cases: of those, of a tactic new to the member but known to another in training.
        runs_federated: what its node decided to run.
        reason: why, a stable reason code.
    """

    name: str
    rows: int
    counterfeit: int
    new_cases: int
    local: Quality
    federated: Quality
    runs_federated: bool
    reason: str


@dataclass(frozen=True)
class Recall:
    """A share with the number of cases it rests on, and its 95 % Wilson interval."""

    found: int
    cases: int

    @property
    def share(self) -> float:
        """The share; NaN without cases."""
        return self.found / self.cases if self.cases else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        return wilson_interval(self.found, self.cases)


def quality(truth: Bools, new_tactic: Bools, scores: Scores) -> Quality:
    """Measure scores (float32[rows], higher is riskier) against the truth (bool[rows])."""
    labels = truth.astype(np.int8)
    threshold = np.quantile(scores[~truth], 1 - FALSE_POSITIVES, method="higher")
    return Quality(
        pr_auc=pr_auc(labels, scores),
        precision=precision_at_k(labels, scores, CAPACITY),
        recall=recall_at_precision(labels, scores, NOTICE_PRECISION),
        new_found=int(np.count_nonzero(scores[new_tactic] > threshold)),
    )


def new_tactic_recall(members: Sequence[MemberFigures]) -> tuple[Recall, Recall]:
    """Return the alliance's recall on new tactics, (local-only, federated), cases added up."""
    cases = sum(member.new_cases for member in members)
    local = sum(member.local.new_found for member in members)
    return Recall(local, cases), Recall(sum(m.federated.new_found for m in members), cases)
