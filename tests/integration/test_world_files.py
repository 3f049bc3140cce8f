from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from participant.ingest import read_records
from shared.domain.schemas import SCHEMAS
from simulations.world import WorldConfig, fresh_listings, generate, training_records, write

WORLD = generate(WorldConfig(members=5, listings_per_week=15, seed=8))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return write(WORLD, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("member", list(WORLD.members))
def test_a_member_can_import_its_own_exports(
    paths: dict[str, dict[str, Path]], member: str
) -> None:
    tables = {**training_records(WORLD, member), "fresh_listings": fresh_listings(WORLD, member)}
    for name, table in tables.items():
        kind = "listings" if name == "fresh_listings" else name
        read, rejects = read_records(paths[member][name], kind)
        assert not list(rejects)
        assert read.schema == SCHEMAS[kind]
        seconds = [n for n, t in SCHEMAS[kind].items() if isinstance(t, pl.Datetime)]
        whole = pl.col(seconds).dt.truncate("1s")
        assert read.with_columns(whole).equals(table.with_columns(whole))
