"""The same records, whatever they contain, are read alike from every format."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.ingest import read_records
from shared.domain.schemas import SCHEMAS
from tests.support.store import write_export

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], include_characters=" \",\n;|'"))
WORDS = TEXT.map(str.strip).filter(bool)
SECONDS = st.integers(0, 7_000_000_000)
TIMES = SECONDS.map(lambda seconds: datetime.fromtimestamp(seconds + 0.25, tz=UTC))
HASHES = st.integers(0, 2**16 - 1).map("{:04x}".format)
LISTINGS = st.fixed_dictionaries(
    {
        "listing_id": WORDS,
        "title": st.none() | WORDS,
        "price": st.none() | st.floats(0, 1e9),
        "quantity": st.none() | st.integers(0, 10**9),
        "image_hashes": st.none() | st.lists(HASHES, min_size=1, max_size=3),
        "created_at": st.none() | TIMES,
    }
)


@settings(max_examples=30, deadline=None)
@given(st.lists(LISTINGS, min_size=1, max_size=5))
def test_every_format_gives_the_same_records(rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMAS["listings"])
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("csv", "jsonl", "parquet"):
            path = write_export(frame, Path(folder) / f"x.{ending}")
            read, rejects = read_records(path, "listings")
            assert rejects == [], ending
            assert read.equals(frame), ending
