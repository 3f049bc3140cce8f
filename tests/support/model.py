"""Small records and training sets for tests of features, training and scoring."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from participant.training.dataset import TrainingSet
from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import Kind
from shared.model.features.batch import FeatureBatch
from shared.model.layout import ModelSpec

NOW = datetime(2025, 6, 1, tzinfo=UTC)
SPEC = ModelSpec(hash_bits=12, embed_dim=4, hidden=6)


def records(kind: Kind, *rows: dict[str, Any]) -> pl.DataFrame:
    """Return rows as a canonical table; missing columns are null."""
    names = list(SCHEMAS[kind])
    full = [{name: row.get(name) for name in names} for row in rows]
    return pl.DataFrame(full, schema=SCHEMAS[kind])


def listing(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a plain honest listing, changed by ``fields``."""
    return {
        "listing_id": f"listing-{number}",
        "marketplace": "portolan",
        "brand": "Veltrine",
        "title": "Veltrine shoulder bag black leather",
        "description": "bought in the official store, with receipt",
        "language": "en",
        "category": "bags",
        "price": 190.0,
        "list_price": 200.0,
        "currency": "EUR",
        "quantity": 1,
        "seller_id": f"seller-{number}",
        "seller_name": "bag corner",
        "seller_created_at": datetime(2020, 1, 1, tzinfo=UTC),
        "image_hashes": ["aa11"],
        "created_at": datetime(2025, 5, 1, tzinfo=UTC),
        "signals": json.dumps({"payment": "card", "return_rate": 0.01}),
        **fields,
    }


def fake(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return an overt counterfeit."""
    given = {
        "title": "Veltr1ne bag top batch 1:1 mirror quality",
        "description": "same factory, no receipt",
        "price": 42.0,
        "seller_created_at": datetime(2025, 4, 22, tzinfo=UTC),
        "signals": json.dumps({"payment": "transfer", "return_rate": 0.2}),
    }
    return listing(number, **{**given, **fields})


def toy_set(
    rows: int = 300, *, seed: int = 0, positive: float = 0.3, spec: ModelSpec = SPEC
) -> TrainingSet:
    """Return records whose class shows in one of twenty tokens a class, beside noise."""
    generator = np.random.Generator(np.random.Philox(seed))
    labels = (generator.random(rows) < positive).astype(np.int8)
    marks = generator.integers(0, 20, rows) + 20 * labels
    noise = generator.integers(100, 400, (rows, 4))
    ids = np.concatenate([marks[:, None], noise], axis=1).astype(np.int32)
    weights = generator.uniform(0.5, 1.5, ids.size).astype(np.float32)
    batch = FeatureBatch(ids.ravel(), weights, np.arange(0, ids.size + 1, 5, dtype=np.int64))
    groups = [f"seller-{number}" for number in range(rows)]
    return TrainingSet.from_features(spec, batch, labels, groups=groups)
