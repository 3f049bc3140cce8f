"""What happens after a moment changes nothing that is known at it: features, labels, split."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.training.dataset import TrainingSet
from participant.training.known import known_records
from shared.model.features.build import build_features
from shared.model.features.history import History
from tests.support.model import NOW, SPEC, listing, records

LISTINGS, SELLERS = 6, 3
TIMES = st.integers(-90 * 24, 90 * 24).map(lambda hours: NOW + timedelta(hours=hours))
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)

offers = st.lists(
    st.tuples(st.integers(0, SELLERS - 1), TIMES), min_size=LISTINGS, max_size=LISTINGS
)
claims = st.lists(
    st.tuples(
        st.integers(0, LISTINGS - 1),
        TIMES,
        st.sampled_from(["fake", "defect", "other"]),
        st.sampled_from(["buyer", "customs", "test_purchase", "analyst", "appeal"]),
    ),
    max_size=12,
)
judgements = st.lists(
    st.tuples(
        st.integers(0, LISTINGS - 1),
        TIMES,
        st.sampled_from(["counterfeit", "authentic", "unsure", "grey_market"]),
        st.one_of(st.none(), st.integers(0, 2000)),
    ),
    max_size=12,
)


def listings(rows: list[tuple[int, datetime]]) -> pl.DataFrame:
    return records(
        "listings",
        *(
            listing(at, seller_id=f"seller-{seller}", created_at=born, price=10.0 + at)
            for at, (seller, born) in enumerate(rows)
        ),
    )


def complaints(rows: list[tuple[int, datetime, str, str]]) -> pl.DataFrame:
    return records(
        "complaints",
        *(
            {
                "complaint_id": f"c{at}",
                "listing_id": f"listing-{about}",
                "source": source,
                "claim": claim,
                "created_at": moment,
            }
            for at, (about, moment, claim, source) in enumerate(rows)
        ),
    )


def verdicts(rows: list[tuple[int, datetime, str, int | None]]) -> pl.DataFrame:
    return records(
        "verdicts",
        *(
            {
                "listing_id": f"listing-{about}",
                "verdict": verdict,
                "source": "analyst",
                "decided_at": moment,
                "reversed_at": None if hours is None else moment + timedelta(hours=hours),
            }
            for about, moment, verdict, hours in rows
        ),
    )


def until(frame: pl.DataFrame, column: str, moment: datetime) -> pl.DataFrame:
    return frame.filter(pl.col(column) <= moment)


@settings(max_examples=60, deadline=None)
@given(offers, claims)
def test_every_history_feature_counts_the_past_alone(
    rows: list[tuple[int, datetime]], told: list[tuple[int, datetime, str, str]]
) -> None:
    frame, all_told = listings(rows), complaints(told)
    moments = pl.repeat(NOW, LISTINGS, dtype=frame.schema["created_at"], eager=True)
    whole = History(frame, all_told).counts(frame, moments)
    # Sellers of complaints are looked up in the listings, whose ids a complaint knows before.
    known = frame.with_columns(
        pl.when(pl.col("created_at") <= NOW).then("created_at").alias("created_at")
    )
    past = History(known, until(all_told, "created_at", NOW)).counts(frame, moments)
    assert whole.keys() == past.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], past[name], err_msg=name)


@settings(max_examples=25, deadline=None)
@given(offers, claims)
def test_no_token_of_a_record_comes_from_its_future(
    rows: list[tuple[int, datetime]], told: list[tuple[int, datetime, str, str]]
) -> None:
    frame, all_told = listings(rows), complaints(told)
    whole, past = (
        build_features(frame, "listings", hash_bits=12, as_of=NOW, history=History(frame, heard))
        for heard in (all_told, until(all_told, "created_at", NOW))
    )
    np.testing.assert_array_equal(whole.ids, past.ids)
    np.testing.assert_array_equal(whole.weights, past.weights)
    np.testing.assert_array_equal(whole.offsets, past.offsets)


@settings(max_examples=25, deadline=None)
@given(offers, claims, judgements)
def test_a_training_set_as_of_a_moment_is_that_of_what_was_stored_then(
    rows: list[tuple[int, datetime]],
    told: list[tuple[int, datetime, str, str]],
    judged: list[tuple[int, datetime, str, int | None]],
) -> None:
    frame, all_told, all_judged = listings(rows), complaints(told), verdicts(judged)
    then = until(all_judged, "decided_at", NOW).with_columns(
        pl.when(pl.col("reversed_at") <= NOW).then("reversed_at").alias("reversed_at")
    )
    whole, past = (
        TrainingSet.from_records(
            "listings", frame, spec=SPEC, as_of=NOW, complaints=told_then, verdicts=judged_then
        )
        for told_then, judged_then in (
            (all_told, all_judged),
            (until(all_told, "created_at", NOW), then),
        )
    )
    assert whole.labels.tolist() == past.labels.tolist()
    assert whole.confidence.tolist() == past.confidence.tolist()
    assert (whole.groups, whole.times.tolist()) == (past.groups, past.times.tolist())
    assert (whole.matrix != past.matrix).nnz == 0
    for part in ("train", "calibration", "holdout"):
        assert getattr(whole.split, part).tolist() == getattr(past.split, part).tolist()


@settings(max_examples=40, deadline=None)
@given(offers, claims, st.integers(1, 10_000))
def test_a_complaint_counts_from_its_very_second_on(
    rows: list[tuple[int, datetime]], told: list[tuple[int, datetime, str, str]], later: int
) -> None:
    frame = listings(rows)
    before = complaints(told)
    one = complaints([(0, NOW + later * SECOND, "fake", "buyer")])
    more = pl.concat([before, one.with_columns(complaint_id=pl.lit("new"))])
    for seconds, extra in ((later - 1, 0), (later, 1)):
        moment = NOW + seconds * SECOND
        moments = pl.repeat(moment, LISTINGS, dtype=frame.schema["created_at"], eager=True)
        without = History(frame, before).counts(frame, moments)["listing_fake_claims"]
        with_it = History(frame, more).counts(frame, moments)["listing_fake_claims"]
        assert with_it[0] - without[0] == extra
        np.testing.assert_array_equal(with_it[1:], without[1:])


revisions = st.lists(st.tuples(st.integers(0, LISTINGS - 1), TIMES), max_size=12)


def versions(
    rows: list[tuple[int, datetime]], changes: list[tuple[int, datetime]]
) -> list[dict[str, Any]]:
    """Return what was stored of the listings, in order of arrival, each with its own price."""
    first = [(at, born) for at, (_, born) in enumerate(rows)]
    return [
        listing(
            at,
            seller_id=f"seller-{rows[at][0]}",
            created_at=rows[at][1],
            updated_at=moment,
            price=10.0 + place,
        )
        for place, (at, moment) in enumerate([*first, *changes])
        if moment >= rows[at][1]
    ]


def latest_and_older(stored: list[dict[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    last = {row["listing_id"]: place for place, row in enumerate(stored)}
    older = [row for place, row in enumerate(stored) if place not in last.values()]
    latest = [stored[place] for place in sorted(last.values())]
    return records("listings", *latest), records("listings", *older)


@settings(max_examples=80, deadline=None)
@given(offers, revisions)
def test_no_value_of_a_training_record_is_younger_than_the_moment_it_is_judged(
    rows: list[tuple[int, datetime]], changes: list[tuple[int, datetime]]
) -> None:
    stored = [row for row in versions(rows, changes) if row["updated_at"] <= NOW]
    found = verdicts([(at, NOW, "authentic", None) for at in range(LISTINGS)])
    frame, older = latest_and_older(stored)
    known = known_records("listings", frame, complaints([]), found, NOW, older)
    assert known["listing_id"].to_list() == frame["listing_id"].to_list()
    for row in known.iter_rows(named=True):
        mine = [one for one in stored if one["listing_id"] == row["listing_id"]]
        there = [one for one in mine if one["updated_at"] <= row["judged_at"]]
        assert row["price"] in [one["price"] for one in mine]
        assert row["updated_at"] == max(one["updated_at"] for one in there)
        assert row["created_at"] <= row["judged_at"] <= NOW


@settings(max_examples=40, deadline=None)
@given(offers, revisions)
def test_a_change_after_a_listing_was_judged_changes_no_token(
    rows: list[tuple[int, datetime]], changes: list[tuple[int, datetime]]
) -> None:
    long_ago = [(seller, min(born, NOW - 60 * DAY)) for seller, born in rows]
    before = versions(long_ago, [])
    after = versions(long_ago, [(at, max(moment, NOW - 2 * DAY)) for at, moment in changes])
    found = verdicts([(at, NOW, "authentic", None) for at in range(LISTINGS)])
    sets = []
    for stored in (before, after):
        frame, older = latest_and_older(stored)
        frame = frame.sort("listing_id")
        sets.append(
            TrainingSet.from_records(
                "listings", frame, spec=SPEC, as_of=NOW, verdicts=found, older=older
            )
        )
    assert (sets[0].matrix != sets[1].matrix).nnz == 0
    assert sets[0].times.tolist() == sets[1].times.tolist()
