"""A member's import is killed, or its disk fills up, at every step that matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from participant.ingest import import_file
from participant.store import Store
from tests.support.store import shops, write_export
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ROWS = 12

# Small segments and batches make a short file take every path of a long one. Each of the four
# batches flushes a segment and its folder, the rejects file adds two flushes, then the commit.
CHILD = """
import os, resource, signal, sys
from pathlib import Path
import participant.ingest.readers as readers
import participant.ingest.service as service
import participant.store.writer as writer
from participant.ingest import import_file
from participant.store import Store
from shared.errors import TouchstoneError
from sqlmodel import Session

readers._TEXT_ROWS = service.BATCH_ROWS = writer.SEGMENT_ROWS = 3
how, at, folder, export = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
store = Store.open(folder)
flushes = 0
flush, commit = os.fsync, Session.commit

def counted(handle):
    global flushes
    if how == "flush" and flushes == at:
        os.kill(os.getpid(), signal.SIGKILL)
    flushes += 1
    flush(handle)

def killed(session):
    if how == "after-commit":
        commit(session)
    if how.endswith("commit"):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(session)

os.fsync, Session.commit = counted, killed
if how == "disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
try:
    import_file(store, export, "shops")
except TouchstoneError as error:
    print(error.code, flush=True)
    sys.exit(int(error.exit_code))
print(flushes)
"""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    names = [f"s{at}" for at in range(ROWS)]
    path = write_export(shops(names), tmp_path / "shops.csv")
    path.write_text(path.read_text().replace("s5.example,,,,0", "s5.example,,,,7"))
    return path


def attempt(how: str, at: int, folder: Path, export: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, how, str(at), str(folder), str(export)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


def complete(folder: Path, export: Path) -> None:
    """Import again and check that the store is as if nothing had happened."""
    store = Store.open(folder)
    report = import_file(store, export, "shops")
    assert store.records.count("shops") == ROWS - 1
    assert report.kept == (0 if report.already_imported else ROWS - 1)
    names = store.records.frame("shops")["shop_id"].to_list()
    assert sorted(names) == sorted(f"s{at}" for at in range(ROWS) if at != 5)
    rejects = list((folder / "store" / "rejects").iterdir())
    assert [json.loads(line)["row"] for line in rejects[0].open()] == [6]
    assert store.audit.verify().seq == 1
    listed = store.records.verify()
    leftovers = [path for path in (folder / "store").rglob("*") if path.name.startswith(".")]
    assert leftovers == []
    assert len(list((folder / "store" / "segments" / "shops").iterdir())) == listed


@pytest.mark.parametrize("flush", [0, 1, 4, 7, 8, 9])
def test_a_member_killed_before_any_flush_keeps_nothing_and_can_start_over(
    tmp_path: Path, export: Path, flush: int
) -> None:
    killed = attempt("flush", flush, tmp_path, export)
    assert killed.returncode == -9, killed.stderr
    store = Store.open(tmp_path)
    assert store.records.count("shops") == 0
    assert store.audit.head().seq == 0
    store.close()
    complete(tmp_path, export)


def test_there_are_ten_flushes_to_be_killed_at(tmp_path: Path, export: Path) -> None:
    done = attempt("flush", 99, tmp_path, export)
    assert (done.returncode, done.stdout.strip()) == (0, "10"), done.stderr


@pytest.mark.parametrize(("how", "rows"), [("before-commit", 0), ("after-commit", ROWS - 1)])
def test_the_commit_is_all_or_nothing(tmp_path: Path, export: Path, how: str, rows: int) -> None:
    killed = attempt(how, 0, tmp_path, export)
    assert killed.returncode == -9, killed.stderr
    store = Store.open(tmp_path)
    assert store.records.count("shops") == rows
    assert store.audit.verify().seq == (1 if rows else 0)
    store.close()
    complete(tmp_path, export)


@pytest.mark.parametrize("limit", [0, 1500, 40_000])
def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, export: Path, limit: int
) -> None:
    """The kernel refuses to let any file grow beyond ``limit`` bytes, as a full disk would."""
    failed = attempt("disk", limit, tmp_path, export)
    assert (failed.returncode, failed.stdout.strip()) == (3, "storage"), failed.stderr
    store = Store.open(tmp_path)
    assert store.records.count("shops") == 0
    assert store.audit.head().seq == 0
    assert list((tmp_path / "store").rglob("*.parquet")) == []
    assert list((tmp_path / "store").rglob("*.part")) == []
    store.close()
    complete(tmp_path, export)
