"""The acceptance rule: keep mine if mine is better.

A release is held against each rival (the model that runs now, and the member's own local-only
model) on the member's own hold-out, by PR-AUC. The same resampled rows are used for both sides
(a paired bootstrap, Efron and Tibshirani 1993, chapter 8). A rival is better when it wins at
least a given share of the resamples; one such rival is enough to keep what runs.

Against the local-only model the burden of proof is the release's: it must not be below it on the
hold-out, by however little, and must win the share itself on all records that neither side has
trained on, hold-out and calibration part together. A hold-out alone is small, and picks out the
lucky among many releases; the calibration part doubles it, and leans to the local-only model,
which was chosen there. A personal head has to win the share against the bare release before it
is used at all.

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
INTERVAL = (5.0, 95.0)
RUNNING = "running"
LOCAL = "local"
LOCAL_UNSEEN = "local_unseen"
"""The local-only model again, on hold-out and calibration part together."""

RELEASE = "release"


@dataclass(frozen=True)
class Rule:
    """The member's own numbers, from its policy file.

    Attributes:
        rival_wins: share of resamples a rival must win to count as better, and the release to be
            shown better than the local-only model. At .5 two equal models would be exchanged by a
            coin; at .95 a small hold-out would let a clearly worse rival pass, and keep out
            nearly every better release.
        min_rows: a hold-out below this decides nothing: one row moves PR-AUC by several points.
        min_class: likewise with fewer rows of either class; at least 1.
        below_local: whether a release may run that is not shown to be better than the local-only
            model, as long as that is not shown to be better either. If not, nobody is worse off
            on the own hold-out for having joined, and hardly anybody on later records; the price
            is that chance keeps out some good releases.
        personal: whether a personal head may be put on top of a release.
    """

    rival_wins: float = 0.80
    min_rows: int = 20
    min_class: int = 3
    below_local: bool = False
    personal: bool = True


class Reason(StrEnum):
    """Why a release was activated or not; stable codes."""

    NOT_WORSE = "not_worse"
    RUNNING_IS_BETTER = "running_is_better"
    LOCAL_IS_BETTER = "local_is_better"
    NOT_SHOWN = "not_shown_better"
    HOLDOUT_TOO_SMALL = "holdout_too_small"
    HOLDOUT_ONE_CLASS = "holdout_one_class"
    OTHER_KIND = "other_kind"
    FIRST_MODEL = "first_model_unjudged"
    OPERATOR = "operator"
    ALREADY_ACTIVE = "already_active"
    REPAIRED = "repaired"
    ALREADY_JUDGED = "already_judged"
    PINNED = "pinned"


class HeadReason(StrEnum):
    """Why a personal head is on top of a release or not; stable codes."""

    HELPS = "head_helps"
    NOT_BETTER = "head_not_better"
    NOT_FITTED = "head_not_fitted"
    CANNOT_TELL = "head_cannot_tell"
    OFF = "head_off"


@dataclass(frozen=True)
class Duel:
    """A release against one rival.

    Attributes:
        rival: ``running``, ``local`` or ``local_unseen``.
        pr_auc: the rival's, on the whole hold-out.
        difference: the release's PR-AUC minus the rival's.
        low: 5th percentile of the difference over resamples.
        high: 95th percentile.
        rival_wins: share of resamples in which the rival has the higher PR-AUC.
        wins: share of resamples in which the release has; ties are nobody's.
    """

    rival: str
    pr_auc: float
    difference: float
    low: float
    high: float
    rival_wins: float
    wins: float

    @property
    def share(self) -> float:
        """Share of resamples that the release wins, a tie counted half."""
        return (1 + self.wins - self.rival_wins) / 2


@dataclass(frozen=True)
class Unseen:
    """Records that no side has trained on: hold-out and calibration part.

    Attributes:
        labels: int8[n], 1 is counterfeit; both classes are present.
        candidate: float32[n], the release's scores; with a head, those by cross-fitting where the
            head has trained.
        local: float32[n], the local-only model's.
    """

    labels: NDArray[np.int8]
    candidate: NDArray[np.float32]
    local: NDArray[np.float32]


@dataclass(frozen=True)
class HeadTrial:
    """What a personal head brought against the bare release on the hold-out.

    Attributes:
        reason: why it is used or not.
        duel: personalised release against bare one; None where there was nothing to compare.
        setting: how the head was fitted, or "".
    """

    reason: HeadReason
    duel: Duel | None = None
    setting: str = ""

    @property
    def helps(self) -> bool:
        """Whether the head is used."""
        return self.reason is HeadReason.HELPS


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
    unseen: Unseen | None = None,
    rule: Rule | None = None,
    seed: int = 0,
) -> Verdict:
    """Apply the rule.

    A hold-out of too few rows, or of too few of a class, cannot tell. Then what runs stays (an
    unproven change is not made), and only a node that runs nothing takes the release, because
    for it the alternative is a model that has seen even less.

    Args:
        labels: int8[rows], 1 is counterfeit.
        candidate: float32[rows], the release's scores.
        rivals: float32[rows] each, by name: ``running`` if something runs, ``local``.
        unseen: what the release must be shown better on than the local-only model; None where
            there is no local-only model.
        rule: the member's own; the default one if left out.
        seed: of the resampling; the same inputs and seed give the same verdict.
    """
    rule = rule or Rule()
    rows, positives = len(labels), int(np.count_nonzero(labels))
    blind = _cannot_tell(rows, positives, rule)
    if blind is not None:
        first = RUNNING not in rivals
        return Verdict(first, Reason.FIRST_MODEL if first else blind, rows, positives)
    duels = tuple(
        duel(name, labels, candidate, scores, seed=seed) for name, scores in rivals.items()
    )
    if unseen is not None:
        wider = duel(LOCAL_UNSEEN, unseen.labels, unseen.candidate, unseen.local, seed=seed)
        duels = (*duels, wider)
    lost = {d.rival for d in duels if _loses(d, rule)}
    reason = next((why for rival, why in _LOST if rival in lost), Reason.NOT_WORSE)
    return Verdict(not lost, reason, rows, positives, pr_auc(labels, candidate), duels)


_LOST = (
    (RUNNING, Reason.RUNNING_IS_BETTER),
    (LOCAL, Reason.LOCAL_IS_BETTER),
    (LOCAL_UNSEEN, Reason.NOT_SHOWN),
)


def _loses(one: Duel, rule: Rule) -> bool:
    """Tell whether the release loses a duel: to what runs by the resamples alone."""
    if one.rival == LOCAL_UNSEEN and not rule.below_local:
        return one.share < rule.rival_wins
    floor = one.rival == LOCAL and not rule.below_local
    return one.rival_wins >= rule.rival_wins or (floor and one.difference < 0)


def try_head(
    labels: NDArray[np.int8],
    bare: NDArray[np.float32],
    personal: NDArray[np.float32],
    setting: str,
    *,
    rule: Rule | None = None,
    seed: int = 0,
) -> HeadTrial:
    """Hold a release with a personal head against the same release without.

    The burden of proof is the head's: it must win the share of resamples that a rival must win,
    on a hold-out that can tell.
    """
    rule = rule or Rule()
    if _cannot_tell(len(labels), int(np.count_nonzero(labels)), rule) is not None:
        return HeadTrial(HeadReason.CANNOT_TELL, None, setting)
    found = duel(RELEASE, labels, personal, bare, seed=seed)
    helps = found.wins >= rule.rival_wins and found.difference > 0
    return HeadTrial(HeadReason.HELPS if helps else HeadReason.NOT_BETTER, found, setting)


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
        wins=float(np.mean(drawn > 0)),
    )


def _cannot_tell(rows: int, positives: int, rule: Rule) -> Reason | None:
    if rows < rule.min_rows:
        return Reason.HOLDOUT_TOO_SMALL
    if min(positives, rows - positives) < rule.min_class:
        return Reason.HOLDOUT_ONE_CLASS
    return None
