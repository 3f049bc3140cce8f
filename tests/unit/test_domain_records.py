"""Single records: what is accepted and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import ValidationError

from shared.domain.records import Complaint, Listing, Shop, Verdict, record_row
from shared.domain.schemas import KEY_COLUMNS, REQUIRED, SCHEMAS, empty_frame
from shared.domain.vocabulary import KINDS

AT = "2025-03-01T12:00:00+02:00"
COMPLAINT = {"complaint_id": "c", "listing_id": "a", "source": "buyer", "claim": "fake"}
VERDICT = {"listing_id": "a", "verdict": "authentic", "source": "analyst"}


@pytest.mark.parametrize(
    "fields",
    [
        {"price": -0.01},
        {"price": float("nan")},
        {"price": 1e12},
        {"currency": "eur"},
        {"currency": "EURO"},
        {"quantity": -1},
        {"created_at": "2025-03-01T12:00:00"},
        {"created_at": AT, "updated_at": "2025-02-01T00:00:00Z"},
        {"listing_id": "  "},
        {"listing_id": "x" * 201},
        {"signals": {"a": float("inf")}},
        {"signals": {"": 1}},
        {"signals": {"a": [1]}},
        {"signals": {str(number): 1 for number in range(257)}},
        {"counterfeit": True},
        {"image_hashes": ["a"] * 65},
    ],
)
def test_listings_that_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        Listing(**{"listing_id": "a", **fields})


def test_times_become_utc() -> None:
    listing = Listing(listing_id=" a ", created_at=AT, price=0)
    assert listing.listing_id == "a"
    assert listing.created_at == datetime(2025, 3, 1, 10, tzinfo=UTC)
    assert listing.created_at.utcoffset().total_seconds() == 0


def test_words_outside_the_vocabulary_are_refused() -> None:
    for fields in ({"source": "neighbour"}, {"claim": "ugly"}, {"created_at": None}):
        with pytest.raises(ValidationError):
            Complaint(**{**COMPLAINT, "created_at": AT, **fields})
    for fields in ({"verdict": "fake"}, {"source": "buyer"}, {"reversed_at": "2020-01-01T00:00Z"}):
        with pytest.raises(ValidationError):
            Verdict(**{**VERDICT, "decided_at": AT, **fields})
    with pytest.raises(ValidationError):
        Shop(shop_id="a", host="a.example", label=2)


def test_records_become_rows_of_their_tables() -> None:
    rows = {
        "listings": Listing(listing_id="a", image_hashes=("h",), signals={"x": 1.5, "y": None}),
        "complaints": Complaint(**COMPLAINT, created_at=AT),
        "verdicts": Verdict(**VERDICT, decided_at=AT),
        "shops": Shop(shop_id="a", host="A.Example", label=1),
    }
    for kind, record in rows.items():
        frame = pl.DataFrame([record_row(record)], schema=SCHEMAS[kind])
        assert frame.height == 1
        assert frame.select(pl.any_horizontal(pl.col(REQUIRED[kind]).is_null())).item() is False


def test_every_kind_has_a_schema_and_a_key() -> None:
    assert set(SCHEMAS) == set(KEY_COLUMNS) == set(REQUIRED) == set(KINDS)
    for kind in KINDS:
        assert set(KEY_COLUMNS[kind]) <= set(REQUIRED[kind]) <= set(empty_frame(kind).columns)
