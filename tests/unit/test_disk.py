"""Looking at a disk, waiting for one, and what SQLite's errors are told as."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared import disk, locks, sqlite
from shared.disk import FIRST_PAUSE_S, LONGEST_PAUSE_S, disk_fault, passes, when_disk_allows
from shared.errors import StorageError
from shared.files import storage_error
from shared.locks import process_lock
from tests.support.waiting import PATIENCE_S

FULL = OSError(errno.ENOSPC, "No space left on device")


def statvfs(**changed: int) -> Any:
    usual = {"f_flag": 0, "f_bfree": 10**6, "f_bavail": 10**6, "f_frsize": 4096}
    return SimpleNamespace(**{**usual, "f_files": 10**6, "f_favail": 10**6, **changed})


@pytest.mark.parametrize(
    ("changed", "uid", "number"),
    [
        ({}, 0, None),
        ({"f_flag": os.ST_RDONLY}, 0, errno.EROFS),
        ({"f_bfree": 3}, 0, errno.ENOSPC),
        ({"f_bavail": 0}, 0, None),
        ({"f_bavail": 0}, 1000, errno.ENOSPC),
        ({"f_favail": 0}, 0, errno.ENOSPC),
        ({"f_files": 0, "f_favail": 0}, 0, None),
    ],
    ids=["sound", "read-only", "full", "root's rest", "none for others", "no inodes", "no count"],
)
def test_what_a_disk_is_told_as(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, int],
    uid: int,
    number: int | None,
) -> None:
    monkeypatch.setattr(disk.os, "statvfs", lambda _path: statvfs(**changed))
    monkeypatch.setattr(disk.os, "geteuid", lambda: uid)
    fault = disk_fault(tmp_path / "not" / "there")
    assert (None if fault is None else fault.errno) == number
    assert passes(fault) is (number is not None)


def test_a_folder_of_somebody_elses_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.os, "access", lambda *_: False)
    fault = disk_fault(tmp_path)
    assert fault is not None
    assert fault.errno == errno.EACCES
    assert not passes(fault)


class TestWaiting:
    """A service on a full disk waits, says so once, and begins anew."""

    def test_it_begins_when_there_is_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults = iter([FULL, FULL, FULL, FULL, None, None])
        monkeypatch.setattr(disk, "disk_fault", lambda *_: next(faults))
        done, said, paused = [], [], []
        when_disk_allows(
            tmp_path,
            lambda: done.append(1),
            said.append,
            lambda seconds: not paused.append(seconds),
        )
        assert done == [1]
        assert said == [f"waiting for the disk: cannot write {tmp_path.name}: the disk is full"]
        assert paused == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]

    def test_pauses_have_an_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(disk, "disk_fault", lambda *_: FULL)
        paused: list[float] = []

        def pause(seconds: float) -> bool:
            paused.append(seconds)
            return len(paused) < 20

        when_disk_allows(tmp_path, lambda: pytest.fail("no room"), lambda _text: None, pause)
        assert max(paused) == LONGEST_PAUSE_S

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
    def test_a_disk_that_fails_it_half_way_is_waited_for(self, tmp_path: Path, number: int) -> None:
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            if len(tries) == 1:
                error = OSError(number, os.strerror(number))
                raise storage_error(error, tmp_path / "node.log") from error

        when_disk_allows(tmp_path, work, lambda _text: None, lambda _seconds: True)
        assert len(tries) == 2

    @pytest.mark.parametrize("number", [0, errno.EACCES])
    def test_what_does_not_pass_ends_it(self, tmp_path: Path, number: int) -> None:
        def work() -> None:
            if number:
                error = OSError(number, os.strerror(number))
                raise storage_error(error, tmp_path) from error
            raise StorageError("it is damaged")

        with pytest.raises(StorageError):
            when_disk_allows(tmp_path, work, lambda _text: None, lambda _seconds: True)

    def test_sigterm_ends_the_waiting(self, tmp_path: Path) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        # As in a service, which has no other threads yet; here pytest may have some.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        begun = time.monotonic()
        assert not disk._pause(PATIENCE_S)
        assert time.monotonic() - begun < PATIENCE_S
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_lock_that_cannot_be_written_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(locks.os, "pwrite", full)
        lock = process_lock(tmp_path / "node.lock", "a node")
        with pytest.raises(StorageError, match=r"node\.lock: the disk is full"):
            lock.__enter__()
    with process_lock(tmp_path / "node.lock", "a node"):
        monkeypatch.setattr(locks.os, "ftruncate", full)  # a disk that broke while it was held


def test_lines_of_log_that_are_lost_leave_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    code = (
        "import sys, logging, pathlib; from shared.logs import log_to; "
        "log_to(pathlib.Path('/dev/full')); logging.getLogger('x').warning('y' * 10000); "
        "logging.shutdown(); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "still here\n"
    assert done.stderr == ""


class TestSqlite:
    @pytest.mark.parametrize(
        ("code", "fault", "why"),
        [
            (sqlite3.SQLITE_IOERR_SHMSIZE, FULL, "the disk is full"),
            (sqlite3.SQLITE_CANTOPEN, OSError(errno.EROFS, "ro"), "the disk is read-only"),
            (sqlite3.SQLITE_CANTOPEN, OSError(errno.EACCES, "no"), "permission denied"),
            (sqlite3.SQLITE_IOERR_WRITE, None, "it cannot be opened, read or written"),
            (sqlite3.SQLITE_READONLY, None, "the file is read-only"),
            (sqlite3.SQLITE_FULL, None, "the disk is full"),
            (sqlite3.SQLITE_BUSY, FULL, "another process holds it"),
            (sqlite3.SQLITE_CORRUPT_INDEX, FULL, "it is damaged"),
            (sqlite3.SQLITE_NOTADB, FULL, "it is not a database"),
        ],
    )
    def test_what_an_error_is_told_as(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        fault: OSError | None,
        why: str,
    ) -> None:
        monkeypatch.setattr(sqlite, "disk_fault", lambda _folder: fault)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        told = sqlite.storage_failure(error, tmp_path / "x.db", "cannot use x.db")
        assert told.message == f"cannot use x.db: {why}"
        assert told.hint
        assert ("backup" in told.hint) is (code & 0xFF in (11, 26))
        assert told.detail == "disk I/O error"

    def test_a_look_at_a_file_as_it_lies_is_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once there is room, the same database writes, and reads what others have written."""
        from participant.store import Store

        Store.open(tmp_path).close()
        real = sqlite.sqlite3.connect
        full = True

        def connect(database: Any, **options: Any) -> sqlite3.Connection:
            if full and not options.get("uri"):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                options["factory"] = type(
                    "Failing", (sqlite3.Connection,), {"execute": raising(error)}
                )
            return real(database, **options)

        monkeypatch.setattr(sqlite.sqlite3, "connect", connect)
        monkeypatch.setattr(sqlite, "disk_fault", lambda _folder: FULL if full else None)
        store = Store.open(tmp_path)
        assert store.audit.head().seq == 0
        with pytest.raises(StorageError, match="the disk is full"):
            store.audit.append("test.done", {})
        full = False
        assert store.audit.append("test.done", {}).seq == 1
        assert store.audit.head().seq == 1
        store.close()


def raising(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail
