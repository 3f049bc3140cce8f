"""A full and a read-only disk are clear errors wherever a node writes, and nothing is half done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from participant.contract import ContractReport, check_records
from participant.deployment.active import active_model
from participant.deployment.fetch import fetch_release
from participant.deployment.service import Deployer
from participant.ingest import import_file, parse_mapping, read_records, readers, service
from participant.node.registry_client import channel_factory
from participant.node.vault import Vault
from participant.node.witnesses import WitnessFile
from participant.scoring.service import score_file
from participant.store import Store, writer
from shared.clock import FixedClock
from shared.errors import Exit, StorageError
from shared.secagg import AnsweredRound
from tests.support.alliance import found_alliance
from tests.support.contract import sound, store_of
from tests.support.deployment import knowing, member_of, records, sets_of
from tests.support.disk_faults import (
    FULL,
    READ_ONLY,
    SAYS,
    database_fault,
    fails_at_every_point,
    faulty,
    files_of,
)
from tests.support.model import listing
from tests.support.model import records as tables
from tests.support.registry import serving
from tests.support.release import AT
from tests.support.store import command, shops, write_export

FAULTS = pytest.mark.parametrize("fault", [FULL, READ_ONLY], ids=["full", "read-only"])
ROWS = 12


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of four batches and four segments, with one bad row."""
    for module, name in (
        (readers, "_TEXT_ROWS"),
        (service, "BATCH_ROWS"),
        (writer, "SEGMENT_ROWS"),
    ):
        monkeypatch.setattr(module, name, 3)
    path = write_export(shops([f"s{at}" for at in range(ROWS)]), tmp_path / "shops.csv")
    path.write_text(path.read_text().replace("s5.example,,,,0", "s5.example,,,,7"))
    return path


@FAULTS
def test_an_import_keeps_nothing_and_can_be_run_again(
    tmp_path: Path, export: Path, fault: int
) -> None:
    store = Store.open(tmp_path / "node")

    def nothing_stored() -> None:
        assert store.records.count("shops") == 0
        assert store.audit.head().seq == 0

    points = fails_at_every_point(
        lambda: import_file(store, export, "shops"), nothing_stored, fault
    )
    assert points > 25
    assert store.records.count("shops") == ROWS - 1
    assert store.audit.verify().seq == 1
    # What an import could not remove on a read-only disk, the last one has swept.
    kept = {Path(name).name for name in files_of(store.folder)}
    assert not [name for name in kept if name.endswith(".part")]
    assert len([name for name in kept if name.endswith(".parquet")]) == store.records.verify()


def test_no_room_for_the_copy_of_an_export_in_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shops.csv"
    path.write_bytes("shop_id,host\n1,a.example\n".encode("utf-16"))
    mapping = 'kind = "shops"\n[file]\nencoding = "utf-16"\n[columns]\n'
    columns = 'shop_id = { from = "shop_id" }\nhost = { from = "host" }\n'

    def full(*_: object) -> None:
        raise OSError(FULL, "No space left on device")

    chosen = parse_mapping(mapping + columns, "m")
    assert read_records(path, "shops", chosen)[0].height == 1
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StorageError, match="the disk is full"):
        read_records(path, "shops", chosen)


@FAULTS
def test_a_database_that_cannot_grow_or_be_written_is_told_as_such(
    tmp_path: Path, export: Path, fault: int
) -> None:
    Store.open(tmp_path / "node").close()
    told = {FULL: "the disk is full", READ_ONLY: "the file is read-only"}[fault]
    with database_fault(fault):
        store = Store.open(tmp_path / "node")
        with pytest.raises(StorageError, match=told):
            store.audit.append("data.imported", {"note": "x" * 100_000})
        store.close()
    store = Store.open(tmp_path / "node")
    assert store.audit.verify().seq == 0
    assert import_file(store, export, "shops").kept == ROWS - 1


@FAULTS
def test_the_command_says_so_with_its_exit_code(
    tmp_path: Path,
    export: Path,
    fault: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = command(monkeypatch)
    Store.open(tmp_path / "node").close()
    arguments = ("data", "import", export, "--kind", "shops", "--dir", tmp_path / "node")
    with faulty(fault, 3):
        assert run(*arguments, "--json") == Exit.CONFIG
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "storage"
    assert SAYS[fault] in shown.err
    assert "hint: " in shown.err
    assert run(*arguments) == Exit.PARTIAL


@FAULTS
def test_a_store_that_cannot_be_made(tmp_path: Path, fault: int) -> None:
    with faulty(fault, 0), pytest.raises(StorageError, match=SAYS[fault]):
        Store.open(tmp_path / "node")
    Store.open(tmp_path / "node").close()


@FAULTS
def test_a_contract_whose_verdict_cannot_be_kept(tmp_path: Path, fault: int) -> None:
    store = store_of(sound(), tmp_path)
    kept = store.folder / "contract-listings.json"

    def none_or_whole() -> None:
        assert not kept.exists() or ContractReport.model_validate_json(kept.read_bytes()).holds
        if fault == FULL:
            assert not [name for name in files_of(store.folder) if name.endswith(".part")]

    fails_at_every_point(lambda: check_records(store, "listings"), none_or_whole, fault)


def answered(number: int) -> AnsweredRound:
    return AnsweredRound(number, 1, b"t" * 32, b"\x0f", b"v" * 32)


@FAULTS
def test_what_masking_writes_is_the_old_step_or_the_new_one(tmp_path: Path, fault: int) -> None:
    run_id = b"r" * 16
    vault = Vault(tmp_path / "secsum")
    vault.save(run_id, b"guard 1", b"session 1")
    again: dict[str, Callable[[], None]] = {
        "save": lambda: vault.save(run_id, b"guard 2", b"session 2", b"upload 2"),
        "witness": lambda: WitnessFile(tmp_path / "secsum", run_id).keep(1, answered(1)),
        "manifest": lambda: vault.save_manifest(run_id, b"signed"),
        "end": lambda: vault.end(run_id),
    }

    def guard_first() -> None:
        pair = vault.guard(run_id), vault.session(run_id)
        assert pair in [
            (b"guard 1", b"session 1"),
            (b"guard 2", b"session 1"),
            (b"guard 2", b"session 2"),
        ], "never a session ahead of its guard"
        assert vault.upload(run_id) in (None, b"upload 2")

    for name in ("save", "witness", "manifest"):
        assert fails_at_every_point(again[name], guard_first, fault) >= 4, name
    assert (vault.guard(run_id), vault.session(run_id)) == (b"guard 2", b"session 2")

    def wiped_or_not() -> None:
        session = vault.session(run_id)
        assert session is None or set(session) == {0} or session == b"session 2"

    fails_at_every_point(again["end"], wiped_or_not, fault)
    assert vault.session(run_id) is None
    vault.close()
    with faulty(fault, 0), pytest.raises(StorageError, match=SAYS[fault]):
        Vault(tmp_path / "other")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """A member that runs one release and has fetched a better one."""
    root = tmp_path_factory.mktemp("released")
    member = member_of(found_alliance(root, ["a"]), "a")
    with serving(member.alliance, member.database):
        old, new = member.publish(1, knowing(0.3)), member.publish(2, knowing(0.8))
        factory = channel_factory(member.folder)
        member.deployer(records(120)).activate(old, factory, personal=False)
        fetch_release(member.folder, new, factory, min_sequence=2)
    member.database.close()
    return member.folder, old, new


@FAULTS
def test_an_activation_leaves_the_old_model_running_or_the_new_one(
    tmp_path: Path, released: tuple[Path, bytes, bytes], fault: int
) -> None:
    source, old, new = released
    folder = tmp_path / "node"
    shutil.copytree(source, folder)
    sets = sets_of(records(120))

    def deploy() -> None:
        Deployer(folder, clock=FixedClock(AT), sets=sets).deploy(new, None)

    def old_or_new() -> None:
        running = active_model(folder)
        assert running is not None
        assert running.release_id in (old.hex(), new.hex())

    assert fails_at_every_point(deploy, old_or_new, fault) >= 4
    running = active_model(folder)
    assert running is not None
    assert running.release_id == new.hex()


@FAULTS
def test_scores_appear_whole_or_not_at_all(
    tmp_path: Path, released: tuple[Path, bytes, bytes], fault: int
) -> None:
    folder = tmp_path / "node"
    shutil.copytree(released[0], folder)
    frame = tables("listings", *(listing(at) for at in range(5)))
    source = write_export(
        frame.with_columns(price=pl.Series(np.array([9.0, 9.0, -1.0, 9.0, 9.0]))),
        tmp_path / "in.csv",
    )
    out = tmp_path / "out.jsonl"

    def absent_or_whole() -> None:
        assert not out.exists() or len(out.read_text().splitlines()) == 4
        if fault == FULL:
            assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]

    def score() -> None:
        score_file(folder, source, out, top=0)

    assert fails_at_every_point(score, absent_or_whole, fault) >= 8
    assert len(out.read_text().splitlines()) == 4
    assert len((tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines()) == 1
