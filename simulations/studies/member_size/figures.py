"""Means with intervals by member size, and every member the rule left worse off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulations.studies.member_size.measure import MODELS, Outcome

DRAWS = 4000
FALSE_ALARMS = 0.025
"""Share of tests that call an equal model significantly worse: one side of a 95 % interval."""


@dataclass(frozen=True)
class Interval:
    """A mean over members with its 95 % bootstrap interval, members resampled."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Return the interval of the mean of ``values``; NaN (one class) is left out."""
        known = np.array([value for value in values if np.isfinite(value)])
        draws = np.random.default_rng(0).integers(0, known.size, (DRAWS, known.size))
        low, high = np.percentile(known[draws].mean(axis=1), (2.5, 97.5))
        return cls(float(known.mean()), float(low), float(high))


@dataclass(frozen=True)
class Row:
    """All members of one size.

    Attributes:
        size: labelled records a member holds.
        members: how many were measured, over all seeds.
        figures: by model.
        gain: of what runs over local-only, member by member.
        heads: members that use a personal head.
        local: members whose local-only model runs.
        unjudged: members whose hold-out could not tell.
    """

    size: int
    members: int
    figures: dict[str, Interval]
    gain: Interval
    heads: int
    local: int
    unjudged: int


def rows(outcomes: Sequence[Outcome], metric: str) -> list[Row]:
    """Return a row for each size; ``metric`` is ``pr_auc`` or ``roc_auc``."""
    found = []
    for size in sorted({one.size for one in outcomes}):
        mine = [one for one in outcomes if one.size == size]
        values = [getattr(one, metric) for one in mine]
        found.append(
            Row(
                size=size,
                members=len(mine),
                figures={name: Interval.of([v[name] for v in values]) for name in MODELS},
                gain=Interval.of([v["runs"] - v["local"] for v in values]),
                heads=sum(one.head == "head_helps" for one in mine),
                local=sum(one.keeps_local for one in mine),
                unjudged=sum(one.holdout_difference is None for one in mine),
            )
        )
    return found


@dataclass(frozen=True)
class Harm:
    """Members that the rule left worse off than their local-only model.

    Attributes:
        judged: members whose hold-out could tell.
        on_holdout: those of them that what runs ranks worse there, by any difference.
        tested: members that run the release, with or without a head.
        on_test: those for whom it is significantly worse on the test part.
        together: those of whom that can be said with all tests in view, by :func:`holm`.
    """

    judged: int
    on_holdout: tuple[Outcome, ...]
    tested: int
    on_test: tuple[Outcome, ...]
    together: tuple[Outcome, ...]

    @property
    def expected_false_alarms(self) -> float:
        """How many of ``on_test`` chance would give if every member ran an equal model."""
        return FALSE_ALARMS * self.tested


def harm(outcomes: Sequence[Outcome]) -> Harm:
    """Return whom the rule left worse off."""
    run = [one for one in outcomes if not one.keeps_local]
    return Harm(
        judged=sum(one.holdout_difference is not None for one in outcomes),
        on_holdout=tuple(one for one in outcomes if one.worse_on_holdout),
        tested=len(run),
        on_test=tuple(one for one in outcomes if one.worse_on_test),
        together=holm(run),
    )


def holm(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Return whom what runs harms, as far as all tests taken together show it.

    Holm's step-down procedure (S. Holm, "A simple sequentially rejective multiple test
    procedure", 1979): the chance of a single false alarm among all members is held at
    :data:`FALSE_ALARMS`.
    """
    found: list[Outcome] = []
    for left, one in zip(
        range(len(outcomes), 0, -1), sorted(outcomes, key=lambda one: one.test_p), strict=True
    ):
        if one.test_p > FALSE_ALARMS / left:
            break
        found.append(one)
    return tuple(found)


def head_gains(outcomes: Sequence[Outcome]) -> list[float]:
    """Return by how much each personal head in use changes PR-AUC on the test part."""
    return [
        one.pr_auc["personalised"] - one.pr_auc["federated"]
        for one in outcomes
        if one.head == "head_helps"
    ]


def forgone(outcomes: Sequence[Outcome]) -> list[float]:
    """Return what each member that keeps its local-only model gives up on the test part."""
    return [one.pr_auc["personalised"] - one.pr_auc["local"] for one in outcomes if one.keeps_local]
