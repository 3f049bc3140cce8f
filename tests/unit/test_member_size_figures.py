"""The member-size study counts and names whoever is left worse off."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from simulations.studies.member_size.figures import Interval, harm, holm, rows
from simulations.studies.member_size.measure import MODELS, Outcome
from simulations.studies.member_size.member import StudyMember, pooled
from simulations.studies.member_size.report import plot, tables
from tests.support.deployment import records

ONE = Outcome(
    source="world",
    seed=21,
    name="veltrine",
    size=200,
    holdout=(40, 4),
    test=(900, 60),
    pr_auc=dict.fromkeys(MODELS, 0.5),
    roc_auc=dict.fromkeys(MODELS, 0.8),
    reason="not_worse",
    head="head_not_fitted",
    holdout_difference=0.1,
    test_low=-0.1,
    test_high=0.2,
    test_p=0.7,
)
WORSE = replace(ONE, name="tonvara", test_low=-0.2, test_high=-0.01, test_p=0.02)
BELOW = replace(ONE, name="felsgrat", holdout_difference=-0.001)
BLIND = replace(
    ONE, name="luzmira", size=50, holdout_difference=None, reason="first_model_unjudged"
)
ALL = [ONE, WORSE, BELOW, BLIND]


def test_everybody_left_worse_off_is_counted_and_named():
    found = harm(ALL)
    assert (found.judged, found.tested) == (3, 4)
    assert found.on_holdout == (BELOW,)
    assert found.on_test == (WORSE,)
    assert found.expected_false_alarms == pytest.approx(0.1)
    # Who keeps the local-only model runs no other that could be worse.
    for reason in ("local_is_better", "not_shown_better"):
        assert harm([*ALL, replace(ONE, reason=reason)]).tested == 4
    text = tables(ALL)
    assert "- worse on the hold-out by 0.001: felsgrat, seed 21" in text
    assert "- worse on the test part, difference -0.200 to -0.010: tonvara" in text


def test_all_tests_together_are_read_by_holms_procedure():
    def members(*values):
        return [replace(ONE, name=f"m{n}", test_p=value) for n, value in enumerate(values)]

    # .025 over 4, 3, 2, 1: each step is tried only if the one before was passed.
    assert [one.name for one in holm(members(0.5, 0.006, 0.0125, 0.008))] == ["m1", "m3", "m2"]
    assert [one.name for one in holm(members(0.5, 0.006, 0.013, 0.0084))] == ["m1"]
    assert holm(members(0.007, 0.007, 0.007, 0.007)) == ()
    assert holm([]) == ()
    assert harm(ALL).together == ()
    assert harm([*ALL, replace(WORSE, test_p=0.001)]).together == (replace(WORSE, test_p=0.001),)
    assert "With all of these tests in view (Holm, the same 95 %) it is 0." in tables(ALL)


def test_rows_are_by_size_and_count_who_could_not_be_judged():
    small, large = rows(ALL, "pr_auc")
    assert (small.size, small.members, small.unjudged) == (50, 1, 1)
    assert (large.size, large.members, large.unjudged) == (200, 3, 0)
    assert large.figures["runs"] == Interval(0.5, 0.5, 0.5)
    assert large.gain.mean == 0


def test_an_interval_holds_the_mean_and_leaves_out_what_is_undefined():
    found = Interval.of([0.1, 0.2, 0.6, float("nan")])
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.3)


def test_heads_that_harm_are_told():
    scores = {**ONE.pr_auc, "personalised": 0.4}
    text = tables([replace(ONE, head="head_helps", pr_auc=scores)])
    assert "1 helped on the hold-out; on the test part they change the release's PR-AUC" in text
    assert "by -0.100" in text
    assert "make it worse for 1." in text
    assert "Personal heads: none helped" in tables([ONE])


def test_what_the_rule_costs_is_told():
    scores = {**ONE.pr_auc, "personalised": 0.7}
    text = tables([replace(ONE, reason="not_shown_better", pr_auc=scores)])
    assert "1 keep their local-only model; for 1 of them the release would have been better" in text
    assert "Nobody keeps a local-only model." in tables([ONE])


def test_outcomes_survive_a_file():
    assert [Outcome.of(one) for one in json.loads(json.dumps([asdict(o) for o in ALL]))] == ALL


def test_the_plot_is_the_same_twice(tmp_path):
    mixed = [*ALL, replace(ONE, source="shops")]
    for name in ("a.svg", "b.svg"):
        plot(mixed, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"real online shops" in (tmp_path / "a.svg").read_bytes()


def test_pooling_keeps_every_record_in_its_part():
    sets = [records(80, seed=1), records(120, seed=2)]
    members = [
        StudyMember(f"m{number}", one.rows, one, one.matrix, one.labels)
        for number, one in enumerate(sets)
    ]
    together = pooled(members)
    assert together.rows == 200
    for name in ("train", "calibration", "holdout"):
        matrices, labels = zip(*(one.part(name) for one in sets), strict=True)
        matrix, joined = together.part(name)
        np.testing.assert_array_equal(joined, np.concatenate(labels))
        assert matrix.sum() == pytest.approx(sum(one.sum() for one in matrices))
