"""Quantiser and tail: what goes into a vector comes out of the sum, within one quantum."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.secagg import (
    Evaluation,
    Layout,
    NoiseTerms,
    Quantiser,
    build_vector,
    check_sum,
    default_value_bits,
    pack,
    unpack_mean,
)
from shared.secagg.errors import BadVector, SumRejected, TermsRefused
from shared.secagg.quantise import packed_words, unpack_lanes
from shared.secagg.tail import LOSS_UNIT, VALUE_LIMIT

PLAIN = Quantiser(16, clip_coord=1.0)
KEY = bytes(range(32))


def draws(seed: int, size: int, scale: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


@pytest.mark.parametrize("n_params", [1, 2, 3, 4, 7, 65_536 * 3 - 1, 65_536 * 3 + 2, 200_003])
def test_the_mean_of_many_is_within_a_quantum(n_params: int) -> None:
    updates = [draws(seed, n_params) for seed in range(3)]
    total = sum((pack(update, 1.0, PLAIN) for update in updates), np.uint64(0))
    mean = unpack_mean(total, n_params, 3, 3.0, PLAIN)
    true = np.mean([np.clip(u, -1, 1) for u in updates], axis=0)
    assert mean.shape == (n_params,)
    assert np.abs(mean - true).max() <= 1 / PLAIN.scale


@pytest.mark.parametrize("n_params", [5, 65_536 * 3 + 2])
def test_the_mean_is_the_formula_to_the_last_bit(n_params: int) -> None:
    members, lanes = 20, np.random.default_rng(1).integers(20, 20 * 65_535, n_params)
    lanes[:2] = members, members * 65_535
    columns = np.zeros(3 * packed_words(n_params), dtype=np.uint64)
    columns[:n_params] = lanes
    low, middle, high = columns.reshape(3, -1)
    packed = low | middle << np.uint64(21) | high << np.uint64(42)
    mean = unpack_mean(packed, n_params, members, 17.5, PLAIN)
    formula = (lanes - members * PLAIN.half) / (PLAIN.scale * 17.5)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, formula.astype(np.float32))
    again = np.full(n_params, np.nan, dtype=np.float32)
    assert unpack_mean(packed, n_params, members, 17.5, PLAIN, out=again) is again
    assert np.array_equal(again, mean)
    for wrong in (again[:-1], again.astype(np.float64)):
        with pytest.raises(BadVector):
            unpack_mean(packed, n_params, members, 17.5, PLAIN, out=wrong)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=40),
    members=st.integers(1, 32),
    bits=st.integers(8, 16),
)
def test_lanes_never_carry_and_clip_at_the_bound(
    values: list[float], members: int, bits: int
) -> None:
    quantiser = Quantiser(bits, clip_coord=0.5)
    quantiser.validate(members)
    update = np.array(values, dtype=np.float32)
    vectors = [pack(update, 1.0, quantiser) for _ in range(members)]
    lanes = unpack_lanes(sum(vectors, np.uint64(0)), update.size)
    singles = [unpack_lanes(vector, update.size) for vector in vectors]
    assert np.array_equal(lanes, np.sum(singles, axis=0))
    for single in singles:
        assert single.min() >= 1
        assert single.max() <= (1 << bits) - 1
        exact = np.clip(update.astype(np.float64), -0.5, 0.5) * quantiser.scale + quantiser.half
        assert np.abs(single - exact).max() <= 1.001


def test_dither_is_unbiased_and_fresh() -> None:
    quantiser = Quantiser(8, clip_coord=1.0)
    update = np.full(60_000, 0.3 / quantiser.scale, dtype=np.float32)
    first, second = (pack(update, 1.0, quantiser) for _ in range(2))
    assert not np.array_equal(first, second)
    lanes = unpack_lanes(first, update.size).astype(np.float64) - quantiser.half
    assert set(np.unique(lanes)) == {0.0, 1.0}
    assert abs(lanes.mean() - 0.3) < 5 * (0.21 / update.size) ** 0.5
    fixed = [pack(update, 1.0, quantiser, dither_key=KEY) for _ in range(2)]
    assert np.array_equal(*fixed)


def test_lane_order_and_padding_are_fixed() -> None:
    quantiser = Quantiser(8, clip_coord=127.0)
    update = np.arange(1, 8, dtype=np.float32)
    words = pack(update, 1.0, quantiser)
    assert packed_words(7) == 3
    lanes = [[(int(word) >> (21 * j)) & 0x1FFFFF for word in words] for j in range(3)]
    assert lanes == [[129, 130, 131], [132, 133, 134], [135, 0, 0]]
    assert all(int(word) >> 63 == 0 for word in words)


def test_the_l2_clip_shrinks_and_never_stretches() -> None:
    quantiser = Quantiser(16, clip_coord=1.0, clip_l2=0.5)
    for update, factor in ((np.full(4, 1.0, np.float32), 0.25), (np.full(4, 0.1, np.float32), 1)):
        mean = unpack_mean(pack(update, 1.0, quantiser), 4, 1, 1.0, quantiser)
        assert np.allclose(mean, update * factor, atol=1 / quantiser.scale)


def test_weights_are_buckets_and_the_mean_divides_by_their_sum() -> None:
    quantiser = Quantiser(16, clip_coord=1.0, bucketed=True)
    layout = Layout(5, evaluates=False)
    updates, weights = [draws(seed, 5) for seed in range(3)], (1.0, 0.25, 0.125)
    vectors = [build_vector(u, w, quantiser) for u, w in zip(updates, weights, strict=True)]
    opened = check_sum(sum(vectors, np.uint64(0)), layout, 3, quantiser)
    assert opened.weight_sum == sum(weights)
    true = np.average(updates, axis=0, weights=weights)
    assert np.abs(opened.mean - true).max() < 3 / quantiser.scale
    assert opened.loss_sum is opened.positives is opened.negatives is None
    with pytest.raises(BadVector):
        build_vector(updates[0], 0.3, quantiser)


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(0, dtype=np.float32),
        np.zeros((2, 2), dtype=np.float32),
        np.zeros(3, dtype=np.float64),
        np.array([1, np.nan], dtype=np.float32),
        np.array([1, -np.inf], dtype=np.float32),
    ],
)
def test_an_update_that_cannot_be_summed_is_refused(update: np.ndarray) -> None:
    with pytest.raises(BadVector):
        build_vector(update, 1.0, PLAIN)


def test_an_update_of_large_finite_values_is_clipped_not_refused() -> None:
    update = np.full(9, 3e38, dtype=np.float32)
    mean = unpack_mean(pack(update, 1.0, PLAIN), 9, 1, 1.0, PLAIN)
    assert np.allclose(mean, 1.0)


def test_value_bits_follow_the_number_of_members() -> None:
    assert [default_value_bits(n) for n in (2, 32, 33, 64)] == [16, 16, 15, 15]
    Quantiser(default_value_bits(64), clip_coord=1.0).validate(64)
    with pytest.raises(TermsRefused):
        Quantiser(16, clip_coord=1.0).validate(33)
    assert Quantiser.decode(PLAIN.encode()) == PLAIN


def evaluation(rows: int = 400) -> Evaluation:
    counts = np.full(20, rows // 40, dtype=np.int64)
    return Evaluation(loss_steps=rows * 8, positives=counts, negatives=counts * 1)


def test_the_evaluation_is_summed_with_its_noise() -> None:
    layout = Layout(4, evaluates=True)
    members = 5
    vectors = [
        build_vector(draws(i, 4), 1.0, PLAIN, evaluation(), NoiseTerms(4.0, min_rows=200))
        for i in range(members)
    ]
    opened = check_sum(sum(vectors, np.uint64(0)), layout, members, PLAIN)
    assert opened.positives is not None
    assert opened.negatives is not None
    assert opened.loss_sum is not None
    # eps 4: scale 1/2 for a count (99.99 % of five draws within 12), 64/16 = 4 nats for the loss.
    assert np.abs(opened.positives - 50).max() < 25
    assert np.abs(opened.negatives - 50).max() < 25
    assert abs(opened.loss_sum - 1000) < 200


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_every_evaluation_word_of_one_member_carries_the_stated_noise(epsilon: float) -> None:
    """Half of epsilon for the counts, half for the loss; less noise would be less privacy."""
    told, layout = evaluation(), Layout(4, evaluates=True)
    tails = np.array([
        build_vector(draws(0, 4), 1.0, PLAIN, told, NoiseTerms(epsilon))[layout.tail][1:]
        for _ in range(600)
    ], dtype=np.int64)  # fmt: skip

    def deviation(sensitivity: int) -> float:
        q = math.exp(-epsilon / 2 / sensitivity)
        return math.sqrt(2 * q) / (1 - q)

    assert tails[:, 0].std() == pytest.approx(deviation(8 * 16), rel=0.25)
    assert tails[:, 1:].std(axis=0) == pytest.approx(deviation(1), rel=0.35)
    assert tails[:, 1:].std() == pytest.approx(deviation(1), rel=0.05)
    means = [told.loss_steps, *told.positives, *told.negatives]
    spread = np.array([deviation(8 * 16), *[deviation(1)] * 40]) / math.sqrt(len(tails))
    assert (np.abs(tails.mean(axis=0) - (1 << 20) - means) < 6 * spread).all()


def test_a_small_hold_out_sends_the_noise_alone() -> None:
    vectors = [
        build_vector(
            draws(0, 4), 1.0, PLAIN, value, NoiseTerms(1.0, min_rows=200),
            dither_key=KEY, randbelow=random.Random(1).randrange,
        )
        for value in (evaluation(160), evaluation(40))
    ]  # fmt: skip
    assert np.array_equal(*vectors)


def test_an_evaluation_needs_noise_and_twenty_honest_counts() -> None:
    good, noise = evaluation(), NoiseTerms(1.0)
    with pytest.raises(BadVector):
        build_vector(draws(0, 4), 1.0, PLAIN, good)
    with pytest.raises(BadVector):
        build_vector(draws(0, 4), 1.0, PLAIN, None, noise)
    for bad in (
        Evaluation(16, good.positives[:19], good.negatives),
        Evaluation(1.0, -good.positives, good.negatives),
        Evaluation(16, good.positives.astype(float), good.negatives),
    ):
        with pytest.raises(BadVector):
            build_vector(draws(0, 4), 1.0, PLAIN, bad, noise)


def test_counts_that_are_too_large_are_cut_not_refused() -> None:
    many = Evaluation(16, evaluation().positives * (1 << 50), evaluation().negatives)
    vector = build_vector(draws(0, 4), 1.0, PLAIN, many, NoiseTerms(1.0))
    check_sum(vector, Layout(4, evaluates=True), 1, PLAIN)
    assert int(vector.max()) < 1 << 62
    assert (vector[4:-1] < VALUE_LIMIT).all()


def test_the_loss_is_capped_by_its_rows() -> None:
    wild = Evaluation(10**300, evaluation().positives, evaluation().negatives)
    vector = build_vector(
        draws(0, 4), 1.0, PLAIN, wild, NoiseTerms(50.0), randbelow=random.Random(1).randrange
    )
    opened = check_sum(vector, Layout(4, evaluates=True), 1, PLAIN)
    assert opened.loss_sum is not None
    assert opened.loss_sum <= 400 * 8 + 1000 / LOSS_UNIT


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("first canary", 1),
        ("last canary", 1),
        ("weight low", -1),
        ("weight high", 1),
        ("tail word", 1 << 46),
        ("packed bit", 1 << 63),
        ("padding", 1 << 42),
        ("lane high", 1),
    ],
)
def test_every_impossible_sum_is_rejected(place: str, value: int) -> None:
    layout = Layout(4, evaluates=True)
    top = np.full(4, 5.0, dtype=np.float32)
    vector = build_vector(top, 1.0, PLAIN, evaluation(), NoiseTerms(1.0))
    check_sum(vector, layout, 1, PLAIN)
    at = {
        "first canary": 0, "last canary": -1, "weight low": 3, "weight high": 3, "tail word": 9,
        "packed bit": 1, "padding": 2, "lane high": 1,
    }[place]  # fmt: skip
    vector[at] = np.uint64((int(vector[at]) + value) % (1 << 64))
    with pytest.raises(SumRejected):
        check_sum(vector, layout, 1, PLAIN)


def test_a_sum_below_what_survivors_can_reach_is_rejected() -> None:
    vector = build_vector(draws(0, 6), 1.0, PLAIN)
    layout = Layout(6, evaluates=False)
    low = vector.copy()
    low[1] = 0
    for wrong, survivors in ((low, 1), (vector, 2), (vector[:-1], 1), (vector[:1], 1)):
        with pytest.raises(SumRejected):
            check_sum(wrong, layout, survivors, PLAIN)


def test_member_values_stay_below_the_limit_that_keeps_sums_apart() -> None:
    assert 64 * VALUE_LIMIT == 1 << 46
