"""From drafts to tables: the canonical columns, and the truth beside them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import Kind
from simulations.world.catalogue import EURO_RATE
from simulations.world.draft import Draft
from simulations.world.laws import HARD_NEGATIVES
from simulations.world.profiles import Profile

TRUTH_SCHEMA = pl.Schema(
    {
        "listing_id": pl.String(),
        "week": pl.Int32(),
        "counterfeit": pl.Boolean(),
        "kind": pl.String(),
        "hard_negative": pl.Boolean(),
        "tactic_id": pl.String(),
        "crew_id": pl.String(),
        "seller_id": pl.String(),
        "code_word": pl.Boolean(),
        "obfuscated": pl.Boolean(),
    }
)


def table(kind: Kind, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return ``rows`` as a canonical table of ``kind``."""
    return pl.DataFrame(rows, schema=SCHEMAS[kind], orient="row")


def listing_row(draft: Draft, member: Profile) -> dict[str, Any]:
    """Return what the member sees of a listing: nothing that only the truth knows."""
    rate = EURO_RATE[member.currency]
    signals = {k: None if k in draft.missing else v for k, v in draft.signals.items()}
    row = {
        "listing_id": draft.listing_id,
        "marketplace": draft.marketplace,
        "url": f"https://{draft.marketplace}.example/item/{draft.listing_id}",
        "brand": draft.product.brand if draft.brand_given else None,
        "title": draft.wording.title,
        "description": draft.wording.description,
        "language": draft.language,
        "category": draft.product.category,
        "price": round(draft.price * rate, 2),
        "currency": member.currency,
        "list_price": round(draft.product.list_price * rate, 2),
        "quantity": draft.quantity,
        "seller_id": draft.seller.seller_id,
        "seller_name": draft.seller.name,
        "seller_created_at": draft.seller.created_at.replace(microsecond=0),
        "seller_rating": draft.seller.rating,
        "ship_from": draft.ship_from,
        "image_hashes": draft.photos,
        "created_at": draft.created_at,
        "updated_at": draft.updated_at,
        "signals": json.dumps(signals, ensure_ascii=False, sort_keys=True),
    }
    return {name: None if name in draft.missing else value for name, value in row.items()}


def truth_row(draft: Draft) -> dict[str, Any]:
    """Return what only the world knows about a listing."""
    return {
        "listing_id": draft.listing_id,
        "week": draft.week,
        "counterfeit": draft.counterfeit,
        "kind": draft.kind,
        "hard_negative": draft.kind in HARD_NEGATIVES,
        "tactic_id": draft.tactic_id,
        "crew_id": draft.seller.crew,
        "seller_id": draft.seller.seller_id,
        "code_word": draft.wording.code_word,
        "obfuscated": draft.wording.obfuscated,
    }
