"""Whatever of a member lies in the coordinator's folder, the demonstration's search finds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from participant.deployment.local_model import LocalModel
from participant.ingest import import_file
from participant.store import Store
from shared.errors import InternalError
from shared.model.layout import ModelSpec
from simulations.demo.alliance import Member
from simulations.demo.exposure import Leaked, examine
from simulations.world import WorldConfig, generate, write

SPEC = ModelSpec(hash_bits=10)
NAME = "Some alliance"


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Member:
    folder = tmp_path_factory.mktemp("exposure")
    config = WorldConfig(
        members=2, weeks=12, train_weeks=10, test_weeks=1, listings_per_week=20, seed=3
    )
    paths = write(generate(config), folder / "data")["veltrine"]
    made = Member("veltrine", folder / "node", ())
    store = Store.open(made.folder)
    for kind in ("listings", "complaints", "verdicts"):
        import_file(store, paths[kind], kind)
    store.close()
    vector = np.random.default_rng(1).normal(size=SPEC.n_params).astype(np.float32)
    (made.folder / "models" / "local").mkdir(parents=True)
    (made.folder / "models" / "local" / "own.model").write_bytes(
        LocalModel("listing", SPEC, vector).encode()
    )
    return made


@pytest.fixture
def coordinator(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "model-00010.f32").write_bytes(bytes(4 * SPEC.n_params))
    (tmp_path / "coordinator.log").write_text('{"event": "ready", "port": 7443}\n')
    execute(tmp_path, "CREATE TABLE alliance (name TEXT, body BLOB)")
    execute(tmp_path, "INSERT INTO alliance VALUES (?, ?)", NAME, b"")
    return tmp_path


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "touchstone.db")) as database, database:
        database.execute(statement, values)


def own_records(member: Member, kind: str):  # type: ignore[no-untyped-def]
    store = Store.open(member.folder, create=False)
    try:
        return store.records.frame(kind)  # type: ignore[arg-type]
    finally:
        store.close()


def test_a_clean_folder_passes_and_says_what_was_searched(
    coordinator: Path, member: Member
) -> None:
    found = examine(coordinator, [member], SPEC, known=NAME)
    assert found.texts > 500
    assert found.model_pieces > 100
    assert found.counts >= 2
    assert found.vectors == ("runs/r/model-00010.f32",)
    assert sum(item.files for item in found.holdings) == 3


def title(folder: Path, member: Member) -> None:
    text = own_records(member, "listings")["title"][7]
    (folder / "runs" / "r" / "journal.bin").write_bytes(b"\x01" + text.encode() + b"\x02")


def title_as_json(folder: Path, member: Member) -> None:
    text = next(t for t in own_records(member, "listings")["title"] if not t.isascii())
    escaped = text.encode("unicode_escape").replace(b"\\x", b"\\u00")
    (folder / "coordinator.log").write_bytes(b'{"event": "' + escaped + b'"}')


def count(folder: Path, member: Member) -> None:
    rows = own_records(member, "listings").height
    (folder / "coordinator.log").write_text(f'{{"event": "masked", "rows": {rows}}}\n')


def count_in_a_table(folder: Path, member: Member) -> None:
    execute(
        folder, "INSERT INTO alliance VALUES (?, ?)", own_records(member, "listings").height, b""
    )


def own_model(folder: Path, member: Member) -> None:
    path = next((member.folder / "models" / "local").glob("*.model"))
    (folder / "runs" / "r" / "session.bin").write_bytes(path.read_bytes()[:4000])


def unknown_vector(folder: Path, _member: Member) -> None:
    (folder / "runs" / "r" / "upload-3.bin").write_bytes(bytes(4 * SPEC.n_params))


def vector_in_a_table(folder: Path, _member: Member) -> None:
    execute(folder, "INSERT INTO alliance VALUES (?, ?)", "x", bytes(4 * SPEC.n_params))


@pytest.mark.parametrize(
    "plant",
    [title, title_as_json, count, count_in_a_table, own_model, unknown_vector, vector_in_a_table],
)
def test_what_is_planted_is_found(
    coordinator: Path, member: Member, plant: Callable[[Path, Member], None]
) -> None:
    plant(coordinator, member)
    with pytest.raises(Leaked):
        examine(coordinator, [member], SPEC, known=NAME)


def test_a_search_that_finds_nothing_at_all_proves_nothing(
    coordinator: Path, member: Member
) -> None:
    with pytest.raises(InternalError):
        examine(coordinator, [member], SPEC, known="Another alliance")
