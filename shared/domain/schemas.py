"""The canonical table of each record kind: what ingest writes, the store keeps, features read.

Missing values are nulls, never sentinels. ``signals`` is one JSON object a row, of names to
number, string or null, because every member has other signals. Times are UTC, in microseconds.
"""

from __future__ import annotations

import polars as pl

from shared.domain.vocabulary import SCHEMA_VERSION, Kind

__all__ = ["KEY_COLUMNS", "REQUIRED", "SCHEMAS", "SCHEMA_VERSION", "TIME", "empty_frame"]

TIME = pl.Datetime("us", "UTC")

SCHEMAS: dict[Kind, pl.Schema] = {
    "listings": pl.Schema(
        {
            "listing_id": pl.String(),
            "marketplace": pl.String(),
            "url": pl.String(),
            "brand": pl.String(),
            "title": pl.String(),
            "description": pl.String(),
            "language": pl.String(),
            "category": pl.String(),
            "price": pl.Float64(),
            "currency": pl.String(),
            "list_price": pl.Float64(),
            "quantity": pl.Int64(),
            "seller_id": pl.String(),
            "seller_name": pl.String(),
            "seller_created_at": TIME,
            "seller_rating": pl.Float64(),
            "ship_from": pl.String(),
            "image_hashes": pl.List(pl.String),
            "created_at": TIME,
            "updated_at": TIME,
            "signals": pl.String(),
        }
    ),
    "complaints": pl.Schema(
        {
            "complaint_id": pl.String(),
            "listing_id": pl.String(),
            "source": pl.String(),
            "claim": pl.String(),
            "text": pl.String(),
            "language": pl.String(),
            "created_at": TIME,
        }
    ),
    "verdicts": pl.Schema(
        {
            "listing_id": pl.String(),
            "verdict": pl.String(),
            "source": pl.String(),
            "decided_at": TIME,
            "reversed_at": TIME,
        }
    ),
    "shops": pl.Schema(
        {
            "shop_id": pl.String(),
            "host": pl.String(),
            "url": pl.String(),
            "created_at": TIME,
            "updated_at": TIME,
            "label": pl.Int8(),
            "signals": pl.String(),
        }
    ),
}

KEY_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "listings": ("listing_id",),
    "complaints": ("complaint_id",),
    # A reversal is the same verdict again, now with reversed_at: a newer version, not a new record.
    "verdicts": ("listing_id", "source", "decided_at"),
    "shops": ("shop_id",),
}
"""What makes two records the same record."""

REQUIRED: dict[Kind, tuple[str, ...]] = {
    "listings": ("listing_id",),
    "complaints": ("complaint_id", "listing_id", "source", "claim", "created_at"),
    "verdicts": ("listing_id", "verdict", "source", "decided_at"),
    "shops": ("shop_id", "host"),
}
"""Columns that may not be null."""


def empty_frame(kind: Kind) -> pl.DataFrame:
    """Return a table of ``kind`` with no rows and the canonical columns."""
    return pl.DataFrame(schema=SCHEMAS[kind])
