"""The split: apart by seller and by time, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.training.split import NO_TIME, SplitPolicy, split_records


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10_000)), min_size=1, max_size=200),
    timed=st.booleans(),
)
def test_no_seller_and_no_moment_on_both_sides(rows: list[tuple[int, int]], timed: bool) -> None:
    groups = [f"s{seller}" for seller, _ in rows]
    times = np.array([at if timed else NO_TIME for _, at in rows], dtype=np.int64)
    split = split_records(groups, times)
    parts = {name: getattr(split, name) for name in ("train", "calibration", "holdout")}
    everything = np.concatenate(list(parts.values()))
    assert np.unique(everything).size == everything.size
    sellers = {name: {groups[k] for k in index} for name, index in parts.items()}
    assert not sellers["train"] & (sellers["calibration"] | sellers["holdout"])
    if timed and np.unique(times).size > 1 and split.holdout.size:
        earlier = np.concatenate([split.train, split.calibration])
        if earlier.size:
            assert times[earlier].max() < times[split.holdout].min()


def test_shares_are_about_right() -> None:
    generator = np.random.default_rng(0)
    groups = [f"s{number}" for number in range(3000)]
    split = split_records(groups, generator.integers(0, 10**6, 3000))
    assert split.holdout.size == pytest.approx(600, abs=60)
    assert split.calibration.size == pytest.approx(480, abs=60)
    assert split.train.size == pytest.approx(1920, abs=120)
    untimed = split_records(groups, np.full(3000, NO_TIME))
    assert untimed.holdout.size == pytest.approx(600, abs=60)


def test_a_seller_keeps_its_place_as_records_arrive() -> None:
    groups = [f"s{number % 40}" for number in range(400)]
    times = np.arange(400, dtype=np.int64)
    before = split_records(groups[:300], times[:300])
    after = split_records(groups, times)
    reserved = {groups[k] for k in before.calibration}
    assert reserved
    assert not reserved & {groups[k] for k in after.train}


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.5, 0.5), (1.0, 0.1)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError):
        SplitPolicy(*shares)
