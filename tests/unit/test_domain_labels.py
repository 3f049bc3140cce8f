"""The written rule that makes labels, case by case."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.labels import derive_labels
from tests.support.model import NOW, listing, records

DAY = timedelta(days=1)


def label(verdicts: list[dict], told_of: list[dict] | None = None) -> tuple | None:
    """Return (label, class, confidence) of one listing, None if it has none."""
    judged = [
        {"listing_id": "listing-0", "source": "analyst", "decided_at": NOW - 9 * DAY, **one}
        for one in verdicts
    ]
    told = [
        {"listing_id": "listing-0", "complaint_id": "c", "created_at": NOW - 5 * DAY, **one}
        for one in told_of or []
    ]
    found = derive_labels(
        records("listings", listing(0)),
        records("complaints", *told),
        records("verdicts", *judged),
        NOW,
    )
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    return row["label"], row["class"], pytest.approx(row["confidence"])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("counterfeit", (1, "counterfeit", 0.9)),
        ("authentic", (0, "authentic", 0.9)),
        ("grey_market", (0, "grey_market", 0.9)),
        ("other_ip", (0, "other_ip", 0.9)),
        ("unsure", None),
    ],
)
def test_verdicts(verdict: str, expected: tuple | None) -> None:
    assert label([{"verdict": verdict}]) == expected


def test_who_had_the_goods_in_hand_is_sure() -> None:
    assert label([{"verdict": "counterfeit", "source": "customs"}])[2] == 1.0
    assert label([{"verdict": "counterfeit", "source": "platform"}])[2] == 0.7


def test_the_latest_verdict_decides_and_unsure_decides_nothing() -> None:
    first = {"verdict": "counterfeit"}
    assert label([first, {"verdict": "authentic", "decided_at": NOW - DAY}])[0] == 0
    assert label([first, {"verdict": "unsure", "decided_at": NOW - DAY}])[0] == 1


def test_a_reversal_makes_a_hard_negative_once_it_is_known() -> None:
    verdict = {"verdict": "counterfeit", "reversed_at": NOW - DAY}
    assert label([verdict]) == (0, "reversed", 1.0)
    assert label([{**verdict, "reversed_at": NOW + DAY}])[:2] == (1, "counterfeit")


def test_the_future_is_not_known() -> None:
    assert label([{"verdict": "counterfeit", "decided_at": NOW + DAY}]) is None
    later = {"source": "customs", "claim": "fake", "created_at": NOW + DAY}
    assert label([], [later]) is None


@pytest.mark.parametrize(
    ("source", "claim", "expected"),
    [
        ("test_purchase", "fake", (1, "counterfeit", 1.0)),
        ("customs", "fake", (1, "counterfeit", 1.0)),
        ("customs", "defect", None),
        ("buyer", "fake", None),
        ("analyst", "fake", None),
        ("appeal", "other", None),
    ],
)
def test_complaints(source: str, claim: str, expected: tuple | None) -> None:
    assert label([], [{"source": source, "claim": claim}]) == expected


def test_the_later_of_verdict_and_confirmed_complaint_decides() -> None:
    complaint = {"source": "customs", "claim": "fake"}
    assert label([{"verdict": "authentic"}], [complaint]) == (1, "counterfeit", 1.0)
    assert label([{"verdict": "authentic", "decided_at": NOW - DAY}], [complaint])[0] == 0


@pytest.mark.parametrize("verdict", ["authentic", "grey_market", "other_ip"])
def test_a_reversal_of_anything_but_counterfeit_says_nothing(verdict: str) -> None:
    gone = {"verdict": verdict, "reversed_at": NOW - DAY}
    assert label([gone]) is None
    standing = {"verdict": "counterfeit", "decided_at": NOW - 20 * DAY}
    assert label([standing, gone])[:2] == (1, "counterfeit")
    assert label([gone], [{"source": "customs", "claim": "fake"}])[0] == 1


def test_a_reversal_hides_no_standing_verdict_of_somebody_who_looked() -> None:
    by_rule = {"verdict": "counterfeit", "source": "rule", "reversed_at": NOW - DAY}
    customs = {"verdict": "counterfeit", "source": "customs", "decided_at": NOW - 20 * DAY}
    assert label([customs, by_rule])[:2] == (1, "counterfeit")
    assert label([by_rule])[:2] == (0, "reversed")


def test_no_automatic_verdict_stands_against_one_who_looked() -> None:
    customs = {"verdict": "counterfeit", "source": "customs"}
    for source in ("rule", "platform", "oracle"):
        later = {"verdict": "authentic", "source": source, "decided_at": NOW - DAY}
        assert label([customs, later]) == (1, "counterfeit", 1.0)
        assert label([later])[:2] == (0, "authentic")
    assert label([customs, {"verdict": "authentic", "decided_at": NOW - DAY}])[0] == 0


def test_goods_in_hand_after_a_reversal_win() -> None:
    verdict = {"verdict": "counterfeit", "reversed_at": NOW - 6 * DAY}
    assert label([verdict], [{"source": "test_purchase", "claim": "fake"}])[0] == 1
    earlier = {"source": "customs", "claim": "fake", "created_at": NOW - 7 * DAY}
    assert label([verdict], [earlier])[:2] == (0, "reversed")


def test_a_reversal_before_its_verdict_is_no_word_at_all() -> None:
    assert label([{"verdict": "counterfeit", "reversed_at": NOW - 30 * DAY}]) is None


def test_only_known_listings_in_their_order() -> None:
    listings = records("listings", listing(2), listing(0), listing(1))
    verdicts = records(
        "verdicts",
        *(
            {
                "listing_id": f"listing-{number}",
                "verdict": "authentic",
                "source": "analyst",
                "decided_at": NOW,
            }
            for number in (0, 2, 9)
        ),
    )
    found = derive_labels(listings, records("complaints"), verdicts, NOW)
    assert found["listing_id"].to_list() == ["listing-2", "listing-0"]
