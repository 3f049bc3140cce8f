"""The rule "keep mine if mine is better", in every case it names."""

from __future__ import annotations

import numpy as np
import pytest

from participant.deployment.acceptance import (
    LOCAL,
    LOCAL_UNSEEN,
    RUNNING,
    HeadReason,
    Reason,
    Rule,
    Unseen,
    duel,
    judge,
    try_head,
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
        (np.tile([0, 1], 20)[: Rule().min_rows - 1], Reason.HOLDOUT_TOO_SMALL),
        (np.zeros(0), Reason.HOLDOUT_TOO_SMALL),
        (np.zeros(50), Reason.HOLDOUT_ONE_CLASS),
        (np.ones(50), Reason.HOLDOUT_ONE_CLASS),
        (np.arange(50) < Rule().min_class - 1, Reason.HOLDOUT_ONE_CLASS),
    ],
)
def test_a_hold_out_that_cannot_tell_keeps_what_runs_but_not_nothing(labels, reason):
    labels = labels.astype(np.int8)
    scores = np.linspace(0, 1, len(labels)).astype(np.float32)
    kept = judge(labels, scores, {RUNNING: scores, LOCAL: scores})
    assert (kept.accept, kept.reason, kept.pr_auc) == (False, reason, None)
    first = judge(labels, scores, {LOCAL: scores})
    assert (first.accept, first.reason) == (True, Reason.FIRST_MODEL)


def test_the_members_own_numbers_decide():
    labels, good = sample(200, 1.2)
    other = sample(200, 1.0, seed=1)[1]
    wins = judge(labels, other, {RUNNING: good}).duels[0].rival_wins
    assert 0.5 < wins < 1
    strict, lax = Rule(rival_wins=wins), Rule(rival_wins=min(1.0, wins + 0.01))
    assert not judge(labels, other, {RUNNING: good}, rule=strict).accept
    assert judge(labels, other, {RUNNING: good}, rule=lax).accept
    for blind in (Rule(min_rows=201), Rule(min_class=41)):
        assert judge(labels, other, {LOCAL: good}, rule=blind).reason is Reason.FIRST_MODEL


def test_the_local_only_model_is_a_floor_and_what_runs_is_not():
    labels, mine = sample(400, 1.0)
    near = mine.copy()
    near[np.flatnonzero(labels)[0]] -= 1  # one counterfeit a little lower
    lost = judge(labels, near, {LOCAL: mine, RUNNING: mine}, rule=Rule(rival_wins=1.0))
    assert lost.duels[0].difference < 0
    assert lost.duels[0].rival_wins < 1.0
    assert (lost.accept, lost.reason) == (False, Reason.LOCAL_IS_BETTER)
    assert judge(labels, near, {RUNNING: mine}, rule=Rule(rival_wins=1.0)).accept
    lenient = Rule(rival_wins=1.0, below_local=True)
    assert judge(labels, near, {LOCAL: mine}, rule=lenient).accept


def test_a_lucky_hold_out_is_not_enough_against_the_local_only_model():
    """The member that made this rule: a hair better on the hold-out, clearly worse elsewhere."""
    labels, local = sample(200, 2.0)
    release = local.copy()
    release[np.flatnonzero(labels)[0]] += 1
    more, theirs = sample(400, 3.0, seed=1)
    ours = sample(400, 1.0, seed=2)[1]
    both = [np.concatenate(pair) for pair in ((labels, more), (release, ours), (local, theirs))]
    unseen = Unseen(*both)
    assert judge(labels, release, {LOCAL: local}).accept
    verdict = judge(labels, release, {LOCAL: local}, unseen=unseen)
    assert (verdict.accept, verdict.reason) == (False, Reason.NOT_SHOWN)
    assert [one.rival for one in verdict.duels] == [LOCAL, LOCAL_UNSEEN]
    assert verdict.duels[0].difference >= 0
    clear = Unseen(both[0], both[2], both[1])
    assert judge(labels, release, {LOCAL: local}, unseen=clear).accept


def test_the_release_has_to_win_the_share_and_an_equal_one_does_not():
    labels, local = sample(300, 1.0)
    release = sample(300, 1.4, seed=5)[1]
    unseen = Unseen(labels, release, local)
    share = duel(LOCAL_UNSEEN, labels, release, local).share
    assert 0.5 < share < 1
    rivals = {LOCAL: np.zeros_like(local)}

    def accepts(**changes):
        return judge(labels, release, rivals, unseen=unseen, rule=Rule(**changes)).accept

    assert accepts(rival_wins=share)
    assert not accepts(rival_wins=min(1.0, share + 0.01))
    same = Unseen(labels, local, local)
    assert duel(LOCAL_UNSEEN, labels, local, local).share == 0.5
    equal = judge(labels, local, {LOCAL: local}, unseen=same)
    assert (equal.accept, equal.reason) == (False, Reason.NOT_SHOWN)
    assert judge(labels, local, {LOCAL: local}, unseen=same, rule=Rule(below_local=True)).accept


def test_a_hold_out_that_cannot_tell_asks_no_other_part():
    labels, good = sample(19, 3.0)
    worse = Unseen(labels, -good, good)
    first = judge(labels, good, {LOCAL: good}, unseen=worse)
    assert (first.accept, first.reason) == (True, Reason.FIRST_MODEL)


def test_a_head_is_used_only_if_it_is_clearly_better():
    labels, good = sample(400, 3.0)
    poor = sample(400, 0.5, seed=1)[1]
    used = try_head(labels, poor, good, "L2 10")
    assert (used.helps, used.reason, used.setting) == (True, HeadReason.HELPS, "L2 10")
    assert used.duel is not None
    assert used.duel.difference > 0
    assert used.duel.wins == 1.0
    for worse in (poor, good):
        trial = try_head(labels, good, worse, "L2 10")
        assert (trial.helps, trial.reason) == (False, HeadReason.NOT_BETTER)


def test_a_hold_out_that_cannot_tell_uses_no_head():
    labels, good = sample(19, 3.0)
    trial = try_head(labels, np.zeros_like(good), good, "L2 10")
    assert (trial.reason, trial.duel) == (HeadReason.CANNOT_TELL, None)
