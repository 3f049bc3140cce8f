"""Node and coordinator where one folder only can be written, enforced by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from participant.node.keystore import connection_pair
from shared.clock import SystemClock
from shared.trust.certificates import renewal_due
from tests.support.alliance import Alliance
from tests.support.confined import denies_executable_memory, landlock_version
from tests.support.processes import ROOT
from tests.support.renewal import old_alliance
from tests.support.store import shops, write_export
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.skipif(
    landlock_version() < 3, reason="needs a Linux with Landlock that covers truncation (6.2)"
)
NO_EXEC = ["--no-exec-memory"] if denies_executable_memory() else []


def environment(folder: Path) -> dict[str, str]:
    """What deploy/ sets, and no home to write to."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "TMPDIR": str(folder / "tmp"),
        "JOBLIB_MULTIPROCESSING": "0",
        "POLARS_SKIP_CPU_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def command(folder: Path, *words: str) -> list[str]:
    confined = [sys.executable, "-m", "tests.support.confined", *NO_EXEC, str(folder)]
    return [*confined, sys.executable, *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *words),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command in the background; yields the process and the file with what it says."""
    said = folder.parent / f"{folder.name}.txt"
    with said.open("wb") as sink:
        child = subprocess.Popen(
            command(folder, *words), cwd=ROOT, env=environment(folder), stdout=sink, stderr=sink
        )
    try:
        yield child, said
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def wait_for(child: subprocess.Popen[bytes], said: Path, text: str) -> None:
    wait_until(lambda: text in said.read_text() or child.poll() is not None)
    assert text in said.read_text(), said.read_text()


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    return old_alliance(tmp_path, ["a"])


def test_the_confinement_holds(tmp_path: Path) -> None:
    """Else the test below would show nothing."""
    folder = tmp_path / "state"
    folder.mkdir()
    code = "import sys; open(sys.argv[1], 'w').close()"
    assert run(folder, "-c", code, str(folder / "in")).returncode == 0
    refused = run(folder, "-c", code, str(tmp_path / "out"))
    assert "PermissionError" in refused.stderr
    if NO_EXEC:
        code = "import mmap; mmap.mmap(-1, 4096, prot=7)"
        assert "PermissionError" in run(folder, "-c", code).stderr


@pytest.mark.slow
def test_a_node_imports_trains_connects_and_renews_in_its_state_folder_alone(
    alliance: Alliance, tmp_path: Path
) -> None:
    folder, coordinator = alliance.dir_of("a"), alliance.coordinator_dir
    real, fake = ([f"{name}{number}" for number in range(60)] for name in ("s", "f"))
    records = pl.concat([shops(real, 0), shops(fake, 1)])
    export = write_export(records, tmp_path / "shops.csv")
    imported = run(
        folder, "-m", "participant", "data", "import", str(export), "--kind", "shops",
        "--dir", str(folder),
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    trained = run(folder, "-m", "tests.support.train_once", str(folder))
    assert trained.stdout.startswith("moved by "), trained.stderr
    assert trained.stderr == ""

    serve = running(coordinator, "-m", "coordinator", "serve", "--dir", str(coordinator))
    up = running(folder, "-m", "participant", "up", "--dir", str(folder))
    with serve as (server, served):
        wait_for(server, served, "serving 'Test alliance'")
        with up as (node, said):
            wait_for(node, said, "connected as member 1")
            now = SystemClock().now()
            wait_until(lambda: not renewal_due(connection_pair(folder).certificate, now))
            node.send_signal(signal.SIGTERM)
            assert node.wait(PATIENCE_S) == 0, said.read_text()
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0, served.read_text()
    for text in (said.read_text(), served.read_text()):
        assert "denied" not in text.lower()
        assert "error" not in text
