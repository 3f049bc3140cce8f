"""Against the local-only model a release is judged on every record that neither has trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from participant.deployment.acceptance import LOCAL_UNSEEN, Reason, Rule, duel
from participant.deployment.candidate import Candidate
from participant.deployment.evidence import Evidence, figures
from participant.deployment.texts import comparison
from participant.training.inference import scores
from participant.training.personal import fit_head
from tests.support.deployment import MARKS, SPEC, knowing, records, sets_of

RECORDS = records(600, positive=0.4, own=0.5, seed=4)
EVIDENCE_RULE = Rule(personal=False)


def release(vector: np.ndarray) -> Candidate:
    return Candidate("ab" * 16, "", "0" * 64, "listing", 1, SPEC, vector)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the local-only model is fitted once for all tests."""
    return tmp_path_factory.mktemp("evidence")


def evidence(folder, rule=EVIDENCE_RULE):
    return Evidence(folder, "listing", sets_of(RECORDS), rule)


def knowing_the_hold_out() -> np.ndarray:
    """Return a model that knows the marks of the hold-out, and takes all others for opposites."""
    vector, known = knowing(-1.0), knowing(1.0)
    seen = np.unique(RECORDS.part("holdout")[0].indices)
    seen = seen[seen < 2 * MARKS] + SPEC.slices.wide.start
    vector[seen] = known[seen]
    return vector


def test_a_release_that_is_good_on_the_hold_out_alone_does_not_run(folder):
    judged = evidence(folder).judge(release(knowing_the_hold_out()), None)
    assert (judged.verdict.accept, judged.verdict.reason) == (False, Reason.NOT_SHOWN)
    floor, wider = judged.verdict.duels
    assert floor.difference > 0 > wider.difference
    assert wider.rival == LOCAL_UNSEEN
    assert "local, with calibration part" in "\n".join(comparison(figures(judged)))
    lenient = evidence(folder, replace(EVIDENCE_RULE, below_local=True))
    assert lenient.judge(release(knowing_the_hold_out()), None).verdict.reason is Reason.NOT_SHOWN


def test_a_better_release_runs_and_the_records_are_those_that_nobody_trained_on(folder):
    judged = evidence(folder).judge(release(knowing()), None)
    assert judged.verdict.accept
    split, local = RECORDS.split, evidence(folder).local(SPEC)
    assert local is not None
    rows = np.sort(np.concatenate([split.holdout, split.calibration]))
    assert not np.isin(rows, split.train).any()
    expected = duel(
        LOCAL_UNSEEN,
        RECORDS.labels[rows],
        scores(SPEC, knowing(), RECORDS.matrix[rows]),
        scores(SPEC, local.vector, RECORDS.matrix[rows]),
    )
    assert judged.verdict.duels[-1] == expected


def test_where_a_head_has_trained_it_is_judged_by_what_it_said_before(folder):
    fitted = fit_head(RECORDS, knowing(0.5))
    assert fitted is not None
    personal = release(knowing(0.5)).with_head(fitted)
    local = evidence(folder).local(SPEC)
    assert local is not None
    found = evidence(folder)._both(personal, local)
    assert found is not None
    rows = np.sort(np.concatenate([RECORDS.split.holdout, RECORDS.split.calibration]))
    given = dict(zip(rows.tolist(), found.candidate.tolist(), strict=True))
    for place, row in enumerate(RECORDS.split.calibration.tolist()):
        assert given[row] == pytest.approx(expit(fitted.unseen[place]))
    now = scores(SPEC, personal.vector, RECORDS.matrix[RECORDS.split.holdout])
    assert [given[row] for row in RECORDS.split.holdout.tolist()] == pytest.approx(now.tolist())
