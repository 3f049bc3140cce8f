"""Deployment judged on the records of a real store, of both kinds."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from participant.deployment.active import active_model
from participant.deployment.evidence import Evidence, kind_of_records, training_sets
from participant.deployment.service import deploy_release
from participant.node.registry_client import channel_factory
from participant.store import Store
from shared.clock import FixedClock
from shared.domain.schemas import SCHEMAS
from shared.model.layout import ModelSpec
from tests.support.alliance import found_alliance
from tests.support.contract import sound
from tests.support.deployment import SPEC, knowing, member_of
from tests.support.model import NOW
from tests.support.registry import serving
from tests.support.release import AT

torch.set_num_threads(1)
ROWS = 160


def frame(kind: str, columns: dict[str, list[object]]) -> pl.DataFrame:
    """Return ``columns`` in the canonical schema; columns that are left out are null."""
    schema = SCHEMAS[kind]
    rows = len(next(iter(columns.values())))
    return pl.DataFrame(
        {name: columns.get(name, [None] * rows) for name in schema}, schema=schema, strict=False
    )


def shops() -> pl.DataFrame:
    """Return shops whose rank gives them away."""
    labels = [number % 2 for number in range(ROWS)]
    return frame(
        "shops",
        {
            "shop_id": [f"shop-{number}" for number in range(ROWS)],
            "host": [f"host-{number}.example" for number in range(ROWS)],
            "updated_at": [AT - timedelta(days=1)] * ROWS,
            "label": labels,
            "signals": [json.dumps({"rank": 10.0 + 1e5 * label}) for label in labels],
        },
    )


def put_listings(store: Store) -> None:
    """Fill a store with listings whose price gives them away, and verdicts on all of them."""
    fake = [number % 2 == 1 for number in range(ROWS)]
    ids = [f"listing-{number}" for number in range(ROWS)]
    created = [AT - timedelta(days=90 - number % 80) for number in range(ROWS)]
    listings = {
        "listing_id": ids,
        "title": ["leather bag"] * ROWS,
        "price": [20.0 if one else 95.0 for one in fake],
        "list_price": [100.0] * ROWS,
        "currency": ["EUR"] * ROWS,
        "seller_id": [f"seller-{number}" for number in range(ROWS)],
        "created_at": created,
        "signals": ["{}"] * ROWS,
    }
    verdicts = {
        "listing_id": ids,
        "verdict": ["counterfeit" if one else "authentic" for one in fake],
        "source": ["analyst"] * ROWS,
        "decided_at": [moment + timedelta(days=2) for moment in created],
    }
    store.records.put("listings", frame("listings", listings))
    store.records.put("verdicts", frame("verdicts", verdicts))


@pytest.mark.parametrize("kind", ["shop", "listing"])
def test_a_release_that_knows_nothing_loses_to_what_the_member_learns_alone(tmp_path: Path, kind):
    member = member_of(found_alliance(tmp_path, ["a"]), "a")
    store = Store.open(member.folder, clock=member.clock)
    if kind == "shop":
        store.records.put("shops", shops())
    else:
        put_listings(store)
    assert kind_of_records(store) == kind
    release_id = member.publish(1, knowing(0.0), kind)
    # These records are so easy that a personal head alone would tell them apart.
    policy = member.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("personal_head = true", "personal_head = false"))
    with serving(member.alliance, member.database):
        outcome = deploy_release(
            member.folder, release_id, channel_factory(member.folder), clock=member.clock
        )
    assert outcome.decision == "activated_local"
    assert outcome.metrics["rivals"]["local"]["pr_auc"] > 0.9
    assert outcome.calibrated
    model = active_model(member.folder)
    assert (model.kind, model.spec) == (kind, SPEC)
    assert model.vector.dtype == np.float32
    store.close()
    member.database.close()


def test_a_node_without_any_records_scores_listings(tmp_path):
    store = Store.open(tmp_path)
    assert kind_of_records(store) == "listing"
    evidence = Evidence(tmp_path, "listing", training_sets(store))
    assert evidence.local(ModelSpec(hash_bits=12)) is None
    store.close()


def test_a_node_trains_on_the_version_that_was_there_when_a_listing_is_judged(
    tmp_path: Path,
) -> None:
    store, tables = Store.open(tmp_path, clock=FixedClock(NOW)), sound()
    store.records.put("listings", tables.listings)
    store.records.put("verdicts", tables.verdicts)
    before = training_sets(store)("listing", SPEC)
    later = pl.col("updated_at") + timedelta(days=90)
    changed = tables.listings.with_columns(later, title=pl.lit("taken down: counterfeit"))
    store.records.put("listings", changed)
    after = training_sets(store)("listing", SPEC)
    assert (before.matrix != after.matrix).nnz == 0
    assert before.rows > 300
    alone = Store.open(tmp_path / "alone", clock=FixedClock(NOW))
    alone.records.put("listings", changed)
    alone.records.put("verdicts", tables.verdicts)
    assert (training_sets(alone)("listing", SPEC).matrix != before.matrix).nnz > 0
    store.close()
    alone.close()
