"""A personal head adds what only this member knows, and nothing where it knows nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from participant.training.inference import logits_of
from participant.training.personal import MIN_CLASS, STRENGTHS, Head, fit_head
from shared.errors import MalformedMessage
from shared.model.layout import ModelSpec, UnknownModel, init_vector
from shared.model.metrics import pr_auc, roc_auc
from tests.support.deployment import OWN_MARK, SPEC, knowing, records

RELEASE = knowing(0.5)
OWN = records(600, own=0.8)


def test_what_only_this_member_knows_is_added():
    fitted = fit_head(OWN, RELEASE)
    assert fitted is not None
    personal = fitted.head.apply(SPEC, RELEASE)
    assert personal[SPEC.slices.wide][OWN_MARK] > RELEASE[SPEC.slices.wide][OWN_MARK] + 0.3
    matrix, labels = OWN.part("holdout")
    bare, better = (pr_auc(labels, logits_of(SPEC, v, matrix)) for v in (RELEASE, personal))
    assert better > bare + 0.03


def test_the_release_itself_is_not_changed():
    before = RELEASE.copy()
    fitted = fit_head(OWN, RELEASE)
    assert fitted is not None
    fitted.head.apply(SPEC, RELEASE)
    np.testing.assert_array_equal(RELEASE, before)


def test_it_touches_only_rows_that_the_members_records_touch_and_the_constant():
    fitted = fit_head(OWN, RELEASE)
    assert fitted is not None
    seen = np.concatenate([OWN.part(name)[0].indices for name in ("train", "calibration")])
    touched = {*seen.tolist(), SPEC.slices.bias.start}
    assert set(fitted.head.places) == touched


def test_labels_without_meaning_give_no_head_or_one_that_cross_fitting_sees_through():
    shuffled = np.random.Generator(np.random.Philox(5)).permutation(OWN.labels).astype(np.int8)
    noise = replace(OWN, labels=shuffled)
    fitted = fit_head(noise, init_vector(SPEC, 0))
    labels = noise.part("calibration")[1]
    if fitted is not None:
        assert abs(roc_auc(labels, fitted.unseen) - 0.5) < 0.2


def test_a_records_score_comes_from_a_head_that_has_not_seen_its_seller():
    """Turning a seller's labels round moves the others' scores, never its own."""
    row = int(OWN.split.calibration[0])
    labels = OWN.labels.copy()
    labels[row] ^= 1
    first, second = fit_head(OWN, RELEASE), fit_head(replace(OWN, labels=labels), RELEASE)
    assert first is not None
    assert second is not None
    assert first.head.setting == second.head.setting
    assert first.unseen[0] == second.unseen[0]
    assert (first.unseen != second.unseen).sum() > OWN.split.calibration.size / 2


def test_the_hold_out_does_not_enter():
    labels = OWN.labels.copy()
    labels[OWN.split.holdout] ^= 1
    first, second = fit_head(OWN, RELEASE), fit_head(replace(OWN, labels=labels), RELEASE)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.head.values, second.head.values)


def test_a_release_that_knows_everything_gets_no_head():
    plain = records(600)
    assert fit_head(plain, knowing(1.0)) is None


def test_too_few_of_a_class_give_no_head():
    labels = np.zeros_like(OWN.labels)
    labels[OWN.split.calibration[: MIN_CLASS - 1]] = 1
    assert fit_head(replace(OWN, labels=labels), RELEASE) is None


def test_the_same_records_give_the_same_head():
    first, second = fit_head(OWN, RELEASE), fit_head(OWN, RELEASE)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.head.values, second.head.values)
    np.testing.assert_array_equal(first.unseen, second.unseen)
    assert first.head.setting in {f"L2 {strength:g}" for strength in STRENGTHS}


def test_the_linear_model_of_private_runs_takes_a_head_too():
    spec = ModelSpec.compact(SPEC.hash_bits)
    fitted = fit_head(replace(OWN, spec=spec), init_vector(spec, 0))
    assert fitted is not None
    assert fitted.head.apply(spec, init_vector(spec, 0)).shape == (spec.n_params,)


@pytest.mark.parametrize(
    ("places", "values"),
    [([0, 1], [1.0]), ([1, 0], [1.0, 1.0]), ([0, 0], [1.0, 1.0]), ([-1], [1.0]),
     ([SPEC.n_params], [1.0]), ([[0]], [[1.0]])],
    ids=["lengths", "order", "twice", "negative", "beyond", "shape"],
)  # fmt: skip
def test_a_head_that_does_not_fit_is_refused(places, values):
    head = Head(np.array(places, dtype=np.int64), np.array(values, dtype=np.float32), "L2 1")
    with pytest.raises(MalformedMessage):
        head.apply(SPEC, RELEASE)


def test_a_head_that_is_not_finite_is_refused():
    head = Head(np.array([0]), np.array([np.inf], dtype=np.float32), "L2 1")
    with pytest.raises(UnknownModel):
        head.apply(SPEC, RELEASE)


def test_an_empty_head_changes_nothing():
    head = Head(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), "L2 1")
    np.testing.assert_array_equal(head.apply(SPEC, RELEASE), RELEASE)
