"""Figures and promises of the demonstration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulations.demo import prose
from simulations.demo.figures import MemberFigures, Quality, new_tactic_recall, quality
from simulations.demo.shops import ShopFigures, ShopOutcome, TargetMissed


def test_new_tactics_count_only_above_two_percent_false_positives() -> None:
    genuine, fakes = np.arange(100, dtype=np.float32), np.array([98.5, 97.5], dtype=np.float32)
    truth = np.repeat([False, True], [100, 2])
    found = quality(truth, truth, np.concatenate([genuine, fakes]))
    # 2 of the 100 genuine listings, 98 and 99, lie at or above the threshold of 98.
    assert found.new_found == 1
    assert found.precision == pytest.approx(2 / 100)


def member(name: str, local: float, federated: float, *, runs: bool = True) -> MemberFigures:
    def made(value: float, found: int) -> Quality:
        return Quality(value, value, value, found)

    return MemberFigures(
        name, 200, 20, 4, made(local, 1), made(federated, 3), runs, "local_is_better"
    )


def test_mean_worst_and_unflattering_rows_are_shown() -> None:
    figures = (member("one", 0.5, 0.8), member("two", 0.6, 0.4, runs=False))
    rows = prose.listing_rows(figures)
    assert [row[0] for row in rows] == ["one", "two", "mean", "worst member"]
    assert rows[2][3:5] == ("0.550", "0.600")
    assert rows[3][3:5] == ("0.500", "0.400")
    remarks = prose.listing_remarks(figures)
    assert remarks[0].startswith("For two the member's own model")
    assert remarks[1].endswith("with 20 it is at most 0.20.")
    assert remarks[2].startswith("two keeps its own model")
    local, federated = new_tactic_recall(figures)
    assert (local.found, federated.found, local.cases) == (2, 6, 8)
    assert federated.interval[0] < federated.share < federated.interval[1]


def test_no_new_tactic_is_no_recall_and_no_certainty() -> None:
    local, _ = new_tactic_recall([])
    assert math.isnan(local.share)
    assert local.interval == (0.0, 1.0)


def shop(seed: int, local: float | None, federated: float | None) -> ShopFigures:
    return ShopFigures("amberly", seed, 90, 40, 9, local, federated, federated, True, "not_worse")


def test_means_are_of_judgeable_members_then_of_deals() -> None:
    outcome = ShopOutcome(
        (),
        (shop(0, 0.9, 0.96), shop(0, 0.8, 0.98), shop(1, 0.7, 0.99), shop(1, None, None)),
    )
    assert outcome.mean("local") == pytest.approx((0.85 + 0.7) / 2)
    assert outcome.mean("federated") == pytest.approx((0.97 + 0.99) / 2)
    assert outcome.worst("local") == 0.7
    assert "1 of 4 test parts" in prose.shop_remarks(outcome)[0]
    assert prose.shop_rows(outcome)[3][5:8] == ("–", "–", "–")
    outcome.check()


@pytest.mark.parametrize(("local", "federated"), [(0.8, 0.94), (0.97, 0.96), (0.96, 0.96)])
def test_a_missed_target_is_an_error(local: float, federated: float) -> None:
    with pytest.raises(TargetMissed):
        ShopOutcome((), (shop(0, local, federated),)).check()
