"""Features of whole records: independence of rows, time, nulls, trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shared.errors import BadInput
from shared.model.features.batch import FeatureBatch
from shared.model.features.build import CHUNK_ROWS, build_features
from shared.model.features.fold import fold_column
from shared.model.features.hashing import to_rows, token_hash
from shared.model.features.history import History
from shared.model.features.text import char_pieces
from tests.support.model import NOW, fake, listing, records

BITS = 18


def features(frame: pl.DataFrame, **options) -> FeatureBatch:
    return build_features(frame, "listings", hash_bits=BITS, as_of=NOW, **options)


def row(batch: FeatureBatch, index: int) -> dict[int, float]:
    """Return a record's tokens as row -> summed weight."""
    found: dict[int, float] = {}
    part = slice(batch.offsets[index], batch.offsets[index + 1])
    for place, weight in zip(batch.ids[part].tolist(), batch.weights[part].tolist(), strict=True):
        found[place] = found.get(place, 0.0) + weight
    return found


def place(token: str) -> int:
    return token_hash(token) >> (32 - BITS)


def odd_listings() -> list[dict]:
    return [
        listing(0),
        fake(1),
        listing(2, title=None, description="", brand=None, price=None, signals=None),
        listing(3, title="高仿 精仿 A货", image_hashes=None, list_price=0.0, signals="{}"),
        listing(4, title="x" * 5000, signals=json.dumps({"other": None, "word": "a", "n": -2})),
        listing(5, seller_id=None, seller_created_at=None, created_at=None),
    ]


def test_a_record_has_the_same_features_alone_and_among_others() -> None:
    many = features(records("listings", *odd_listings()))
    for index, one in enumerate(odd_listings()):
        assert row(many, index) == pytest.approx(row(features(records("listings", one)), 0))


def test_chunks_make_no_difference() -> None:
    frame = records("listings", *(listing(number % 7) for number in range(CHUNK_ROWS + 3)))
    batch = features(frame)
    assert batch.rows == CHUNK_ROWS + 3
    assert row(batch, CHUNK_ROWS + 2) == pytest.approx(row(batch, (CHUNK_ROWS + 2) % 7))


def test_no_rows() -> None:
    assert features(records("listings")).rows == 0


def test_a_smaller_space_is_a_coarsening() -> None:
    frame = records("listings", fake())
    small = build_features(frame, "listings", hash_bits=16, as_of=NOW)
    np.testing.assert_array_equal(features(frame).ids >> 2, small.ids)


def test_null_and_absent_signals_differ() -> None:
    null, absent = (
        row(features(records("listings", listing(signals=text))), 0)
        for text in ('{"refunds": null}', "{}")
    )
    assert place("signal.refunds#null") in null
    assert place("signal.refunds#null") not in absent


def test_hidden_brand_is_a_token() -> None:
    assert place("brand_match=digit") in row(features(records("listings", fake())), 0)
    assert place("brand_match=exact") in row(features(records("listings", listing())), 0)


def test_raw_text_counts_only_where_folding_changed_it() -> None:
    plain = features(records("listings", listing()), trace=True)
    disguised = features(records("listings", fake(title="Vеltrine bag")), trace=True)
    assert plain.trace is not None
    assert disguised.trace is not None
    assert not any(name.startswith("title~raw") for name in plain.trace.names)
    assert any(name.startswith("title~raw") for name in disguised.trace.names)


def test_a_text_has_unit_length() -> None:
    pieces = char_pieces("title", fold_column(["veltrine shoulder bag", "x"]), BITS)
    squared = np.zeros(2)
    for piece in pieces:
        np.add.at(squared, piece.rows, piece.weights.astype(np.float64) ** 2)
    assert squared == pytest.approx([1.0, 1.0], abs=1e-6)


def test_seller_age_is_counted_to_the_moment_of_scoring() -> None:
    frame = records("listings", listing(seller_created_at=NOW - timedelta(days=10)))
    later = build_features(frame, "listings", hash_bits=BITS, as_of=NOW + timedelta(days=300))
    assert row(later, 0) != row(features(frame), 0)
    before = build_features(
        frame, "listings", hash_bits=BITS, as_of=datetime(2019, 1, 1, tzinfo=UTC)
    )
    assert place("seller_age_days#null") in row(before, 0)


def test_complaints_from_the_future_do_not_exist() -> None:
    frame = records("listings", listing(0), listing(1, seller_id="seller-0"))
    told = [
        {"complaint_id": "c1", "created_at": NOW - timedelta(days=3)},
        {"complaint_id": "c2", "created_at": NOW + timedelta(seconds=1)},
        {"complaint_id": "c3", "created_at": NOW, "source": "appeal"},
    ]
    common = {"listing_id": "listing-1", "source": "buyer", "claim": "fake"}
    complaints = records("complaints", *({**common, **one} for one in told))
    history = History(frame, complaints)
    moments = pl.Series([NOW, NOW]).cast(pl.Datetime("us", "UTC"))
    counts = {name: values.tolist() for name, values in history.counts(frame, moments).items()}
    assert counts == {
        "listing_complaints": [0, 1],
        "listing_fake_claims": [0, 1],
        "seller_complaints": [1, 1],
        "seller_fake_rate": [0.5, 0.5],
    }
    earlier = History(frame, complaints.filter(pl.col("created_at") <= NOW))
    assert row(features(frame, history=history), 0) == row(features(frame, history=earlier), 0)
    past = pl.Series([NOW - timedelta(days=4)] * 2).cast(pl.Datetime("us", "UTC"))
    assert history.counts(frame, past)["seller_complaints"].tolist() == [0, 0]


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"a": 1}, {"b": 2}'])
def test_signals_that_are_no_object(text: str) -> None:
    with pytest.raises(BadInput):
        features(records("listings", listing(signals=text)))


def test_a_missing_column_is_named_an_error() -> None:
    with pytest.raises(BadInput):
        features(records("listings", listing()).drop("title"))


def test_trace_leads_back_to_the_text() -> None:
    batch = features(records("listings", fake()), trace=True)
    assert batch.trace is not None
    index = batch.trace.names.index("title:word")
    text = batch.trace.texts["title"].codes
    found = {
        "".join(map(chr, text[start : start + length]))
        for group, start, length in zip(
            batch.trace.groups, batch.trace.starts, batch.trace.lengths, strict=True
        )
        if batch.trace.names[group] == batch.trace.names[index]
    }
    assert {"mirror", "mirror quality", "1:1"} <= found


def test_shops_never_carry_their_country() -> None:
    one, other = (
        build_features(
            records("shops", {"shop_id": "a", "host": host, "signals": "{}"}),
            "shops",
            hash_bits=BITS,
            as_of=NOW,
        )
        for host in ("www.fair-bags.lt", "www.fair-bags.shop")
    )
    np.testing.assert_array_equal(one.ids, other.ids)


def test_the_hash_spreads_like_a_random_function() -> None:
    words = [
        f"{a}{b}{c}x" for a in "abcdefghijklmnop" for b in "0123456789αβγδ" for c in "qwertz高仿"
    ]
    pieces = char_pieces("title", fold_column(words), 30)
    longest = next(piece for piece in pieces if piece.lengths[0] == 5)
    used = np.unique(longest.ids).size
    distinct = len({f" {word} "[k : k + 5] for word in words for k in range(len(word) - 2)})
    assert used >= distinct - 2
    rows = to_rows((np.unique(longest.ids).astype(np.uint32) << np.uint32(2)), 10)
    load = np.bincount(rows, minlength=1024)
    mean = used / 1024
    assert abs(((load - mean) ** 2).sum() / mean / 1023 - 1) < 0.2
