"""The record store against the simplest thing that could be right: a dict."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.store import Store
from tests.support.store import shops

IDS = st.sampled_from(["a", "b", "c", "d", "", "ü", "a\x1f"])
BATCHES = st.lists(st.lists(st.tuples(IDS, st.integers(0, 2)), min_size=1, max_size=8), max_size=6)


@settings(max_examples=25, deadline=None)
@given(BATCHES)
def test_the_store_behaves_like_a_dict_of_latest_versions(
    batches: list[list[tuple[str, int]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        model: dict[str, int] = {}
        for batch in batches:
            tally = store.records.put("shops", pl.concat(shops([n], v) for n, v in batch))
            latest = dict(batch)
            assert tally.added == len(latest.keys() - model.keys())
            assert tally.updated == sum(model.get(n, v) != v for n, v in latest.items())
            assert tally.kept == len(latest)
            assert tally.duplicates == len(batch) - len(latest)
            model |= latest
        assert dict(store.records.frame("shops", ["shop_id", "label"]).rows()) == model
        assert store.records.count("shops") == len(model)
        store.close()
