"""The rule "keep mine if mine is better", in every case it names."""

from __future__ import annotations

import numpy as np
import pytest

from participant.deployment.acceptance import (
    LOCAL,
    MIN_ROWS,
    RUNNING,
    Reason,
    duel,
    judge,
)


def sample(rows: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.Philox(seed))
    labels = (np.arange(rows) % 5 == 0).astype(np.int8)
    scores = labels * strength + generator.standard_normal(rows)
    return labels, scores.astype(np.float32)


def test_a_clearly_better_release_is_accepted():
    labels, good = sample(400, 3.0)
    poor = sample(400, 0.5, seed=1)[1]
    verdict = judge(labels, good, {RUNNING: poor, LOCAL: poor})
    assert verdict.accept
    assert verdict.reason is Reason.NOT_WORSE
    assert all(d.low > 0 and d.rival_wins == 0 for d in verdict.duels)


@pytest.mark.parametrize(
    ("rivals", "reason"),
    [
        ((RUNNING,), Reason.RUNNING_IS_BETTER),
        ((LOCAL,), Reason.LOCAL_IS_BETTER),
        ((RUNNING, LOCAL), Reason.RUNNING_IS_BETTER),
    ],
)
def test_one_better_rival_is_enough_to_keep_mine(rivals, reason):
    labels, good = sample(400, 3.0)
    poor = sample(400, 0.5, seed=1)[1]
    scores = {name: good if name in rivals else poor for name in (RUNNING, LOCAL)}
    verdict = judge(labels, poor, scores)
    assert not verdict.accept
    assert verdict.reason is reason


def test_an_equal_release_is_accepted():
    labels, scores = sample(100, 1.0)
    verdict = judge(labels, scores, {RUNNING: scores})
    assert verdict.accept
    assert verdict.duels[0].difference == 0


def test_the_direction_of_a_duel():
    labels, good = sample(200, 3.0)
    poor = sample(200, 0.2, seed=1)[1]
    forth, back = duel("x", labels, good, poor), duel("x", labels, poor, good)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.low <= forth.difference <= forth.high
    assert (forth.rival_wins, back.rival_wins) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_verdict():
    labels, a = sample(200, 1.0)
    b = sample(200, 1.0, seed=2)[1]
    assert judge(labels, a, {LOCAL: b}, seed=3) == judge(labels, a, {LOCAL: b}, seed=3)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.tile([0, 1], MIN_ROWS)[: MIN_ROWS - 1], Reason.HOLDOUT_TOO_SMALL),
        (np.zeros(0), Reason.HOLDOUT_TOO_SMALL),
        (np.zeros(50), Reason.HOLDOUT_ONE_CLASS),
        (np.ones(50), Reason.HOLDOUT_ONE_CLASS),
    ],
)
def test_a_hold_out_that_cannot_tell_keeps_what_runs_but_not_nothing(labels, reason):
    labels = labels.astype(np.int8)
    scores = np.linspace(0, 1, len(labels)).astype(np.float32)
    kept = judge(labels, scores, {RUNNING: scores, LOCAL: scores})
    assert (kept.accept, kept.reason, kept.pr_auc) == (False, reason, None)
    first = judge(labels, scores, {LOCAL: scores})
    assert (first.accept, first.reason) == (True, Reason.FIRST_MODEL)
