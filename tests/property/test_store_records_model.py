"""The record store against the simplest thing that could be right: a list of versions a record."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from participant.store import Store
from tests.support.store import NOON, shops

IDS = st.sampled_from(["a", "b", "c", "d", "", "ü", "a\x1f"])
DAYS = st.none() | st.integers(0, 2)
Row = tuple[str, int, int | None]
Version = tuple[int, int | None]


def batches(days: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[list[Row]]]:
    row = st.tuples(IDS, st.integers(0, 2), days)
    return st.lists(st.lists(row, min_size=1, max_size=8), max_size=6)


def as_shops(batch: list[Row]) -> pl.DataFrame:
    frames = [
        shops([name], label, None if day is None else NOON + timedelta(days=day))
        for name, label, day in batch
    ]
    return pl.concat(frames)


def told_by(versions: list[Version]) -> list[Version]:
    """Return what a file's rows of one record say: a version a day, or the last row alone."""
    if any(day is None for _, day in versions):
        return versions[-1:]
    return [(label, day) for day, label in {day: label for label, day in versions}.items()]


def history(arrived: list[Version]) -> list[Version]:
    """Return the versions that hold, the latest last."""
    holding: dict[int | None, int] = {}
    for label, day in arrived:
        if day is None:
            holding.clear()
        holding[day] = label
    by_age = sorted(holding, key=lambda day: -1 if day is None else day)
    return [(holding[day], day) for day in by_age]


@settings(max_examples=40, deadline=None)
@given(batches(DAYS))
def test_the_store_keeps_the_history_of_every_record(files: list[list[Row]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        arrived: dict[str, list[Version]] = defaultdict(list)
        for file in files:
            rows: dict[str, list[Version]] = defaultdict(list)
            for name, label, day in file:
                rows[name].append((label, day))
            tally = store.records.put("shops", as_shops(file))
            assert tally.added == len(rows.keys() - arrived.keys())
            assert tally.kept == len(rows)
            assert tally.duplicates == len(file) - len(rows)
            for name, versions in rows.items():
                arrived[name].extend(told_by(versions))
        columns = ["shop_id", "label", "updated_at"]
        found: dict[str, list[Version]] = {}
        for frame in (
            store.records.older("shops", pl.Series([*arrived], dtype=pl.String), columns),
            store.records.frame("shops", columns),
        ):
            for name, label, at in frame.rows():
                day = None if at is None else (at - NOON).days
                found.setdefault(name, []).append((label, day))
        expected = {name: history(versions) for name, versions in arrived.items()}
        assert {name: versions[-1] for name, versions in found.items()} == {
            name: versions[-1] for name, versions in expected.items()
        }
        assert {name: sorted(map(str, versions)) for name, versions in found.items()} == {
            name: sorted(map(str, versions)) for name, versions in expected.items()
        }
        assert store.records.count("shops") == len(expected)
        stored = store.records.state("shops")
        if files:
            store.records.put("shops", as_shops(files[-1]))
        assert store.records.state("shops") == stored, "the same file again added something"
        store.close()


@settings(max_examples=25, deadline=None)
@given(batches(st.none()))
def test_without_times_it_behaves_like_a_dict(files: list[list[Row]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        model: dict[str, int] = {}
        for file in files:
            tally = store.records.put("shops", as_shops(file))
            latest = {name: label for name, label, _ in file}
            assert tally.updated == sum(
                name in model and model[name] != label for name, label in latest.items()
            )
            model |= latest
        assert dict(store.records.frame("shops", ["shop_id", "label"]).rows()) == model
        store.close()
