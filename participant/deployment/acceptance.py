"""The acceptance rule: keep mine if mine is better.

A release is held against each rival (the model that runs now, and the member's own local-only
model) on the member's own hold-out, by PR-AUC. The same resampled rows are used for both sides
(a paired bootstrap, Efron and Tibshirani 1993, chapter 8). A rival is better when it wins at
least :data:`RIVAL_WINS` of the resamples; one such rival is enough to keep what runs.

Pure: scores in, decision out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shared.model.metrics import bootstrap_difference, pr_auc

RESAMPLES = 400
RIVAL_WINS = 0.80
"""Share of resamples a rival must win to count as better. At .5 two equal models would be
exchanged by a coin; at .95 a small hold-out would let a clearly worse model pass."""

MIN_ROWS = 20
"""A hold-out below this decides nothing: one row moves PR-AUC by several points."""

INTERVAL = (5.0, 95.0)
RUNNING = "running"
LOCAL = "local"


class Reason(StrEnum):
    """Why a release was activated or not; stable codes."""

    NOT_WORSE = "not_worse"
    RUNNING_IS_BETTER = "running_is_better"
    LOCAL_IS_BETTER = "local_is_better"
    HOLDOUT_TOO_SMALL = "holdout_too_small"
    HOLDOUT_ONE_CLASS = "holdout_one_class"
    OTHER_KIND = "other_kind"
    FIRST_MODEL = "first_model_unjudged"
    OPERATOR = "operator"
    ALREADY_ACTIVE = "already_active"


@dataclass(frozen=True)
class Duel:
    """A release against one rival.

    Attributes:
        rival: ``running`` or ``local``.
        pr_auc: the rival's, on the whole hold-out.
        difference: the release's PR-AUC minus the rival's.
        low: 5th percentile of the difference over resamples.
        high: 95th percentile.
        rival_wins: share of resamples in which the rival has the higher PR-AUC.
    """

    rival: str
    pr_auc: float
    difference: float
    low: float
    high: float
    rival_wins: float


@dataclass(frozen=True)
class Verdict:
    """What the rule says, and on what it rests. Stays at the member.

    Attributes:
        accept: whether the release may run.
        reason: why.
        rows: rows of the hold-out.
        positives: counterfeits among them.
        pr_auc: the release's, or None when the hold-out cannot tell.
        duels: one for each rival.
    """

    accept: bool
    reason: Reason
    rows: int = 0
    positives: int = 0
    pr_auc: float | None = None
    duels: tuple[Duel, ...] = ()


def judge(
    labels: NDArray[np.int8],
    candidate: NDArray[np.float32],
    rivals: Mapping[str, NDArray[np.float32]],
    *,
    seed: int = 0,
) -> Verdict:
    """Apply the rule.

    A hold-out of fewer than :data:`MIN_ROWS` rows or of one class cannot tell. Then what runs
    stays (an unproven change is not made), and only a node that runs nothing takes the release,
    because for it the alternative is to have no model at all.

    Args:
        labels: int8[rows], 1 is counterfeit.
        candidate: float32[rows], the release's scores.
        rivals: float32[rows] each, by name: ``running`` if something runs, ``local``.
        seed: of the resampling; the same inputs and seed give the same verdict.
    """
    rows, positives = len(labels), int(np.count_nonzero(labels))
    blind = _cannot_tell(rows, positives)
    if blind is not None:
        first = RUNNING not in rivals
        return Verdict(first, Reason.FIRST_MODEL if first else blind, rows, positives)
    duels = tuple(
        duel(name, labels, candidate, scores, seed=seed) for name, scores in rivals.items()
    )
    lost = {d.rival for d in duels if d.rival_wins >= RIVAL_WINS}
    reason = Reason.NOT_WORSE
    if RUNNING in lost:
        reason = Reason.RUNNING_IS_BETTER
    elif lost:
        reason = Reason.LOCAL_IS_BETTER
    return Verdict(not lost, reason, rows, positives, pr_auc(labels, candidate), duels)


def duel(
    name: str,
    labels: NDArray[np.int8],
    candidate: NDArray[np.float32],
    rival: NDArray[np.float32],
    *,
    seed: int = 0,
) -> Duel:
    """Compare two score columns by paired bootstrap; both classes must be present."""
    drawn = bootstrap_difference(labels, candidate, rival, pr_auc, seed=seed, samples=RESAMPLES)
    low, high = np.percentile(drawn, INTERVAL)
    rival_pr_auc = pr_auc(labels, rival)
    return Duel(
        rival=name,
        pr_auc=rival_pr_auc,
        difference=pr_auc(labels, candidate) - rival_pr_auc,
        low=float(low),
        high=float(high),
        rival_wins=float(np.mean(drawn < 0)),
    )


def _cannot_tell(rows: int, positives: int) -> Reason | None:
    if rows < MIN_ROWS:
        return Reason.HOLDOUT_TOO_SMALL
    if positives in (0, rows):
        return Reason.HOLDOUT_ONE_CLASS
    return None
