"""Process locks and log files of a state folder."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared.errors import NotFound, StorageError
from shared.locks import AlreadyRunning, process_lock
from shared.logs import log_to

HOLD = """
import sys, time
sys.path.insert(0, ".")
from pathlib import Path
from shared.locks import process_lock
with process_lock(Path(sys.argv[1]), "a node"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_excludes_and_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "node.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid}"), process_lock(lock, "x"):
            pytest.fail("two processes hold one lock")
    finally:
        holder.kill()
        holder.wait()
    with process_lock(lock, "x"):
        assert lock.stat().st_mode & 0o777 == 0o600
    assert lock.read_text() == ""


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "l"
    with pytest.raises(KeyError), process_lock(lock, "x"):
        raise KeyError
    with process_lock(lock, "x"):
        pass


def test_a_lock_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound), process_lock(tmp_path / "no" / "l", "x"):
        pass


@pytest.fixture
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging")
def test_ours_and_the_libraries_log_go_to_one_file_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    log_to(path)
    structlog.get_logger("node").info("instruction", kind="train.masked")
    logging.getLogger("some.library").warning("careful: %d", 3)
    logging.getLogger("some.library").debug("noise")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["instruction", "careful: 3"]
    assert [line["logger"] for line in lines] == ["node", "some.library"]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("_logging")
def test_a_log_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        log_to(tmp_path / "no" / "node.log")
