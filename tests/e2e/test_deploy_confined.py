"""Node and coordinator where one folder only can be written, enforced by the kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


NOBODY = 65534
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    # Tests may run from an installation below root's home. Reading it is all that this allows.
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


def command(folder: Path, *words: str, nobody: bool = False) -> list[str]:
    confined = [sys.executable, "-m", "tests.support.confined", *NO_EXEC, str(folder)]
    return [*(AS_NOBODY if nobody else ()), *confined, sys.executable, *words]


def run(folder: Path, *words: str, nobody: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *words, nobody=nobody),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def node(folder: Path, *words: str, nobody: bool = False) -> dict[str, Any]:
    """Run the participant's command; it must end well and say nothing of what it may not."""
    done = run(folder, "-m", "participant", *words, "--json", "--dir", str(folder), nobody=nobody)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "denied" not in (done.stdout + done.stderr).lower()
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in report["checks"]}


@contextmanager
def running(
    folder: Path, *words: str, nobody: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command in the background; yields the process and the file with what it says."""
    said = folder.parent / f"{folder.name}.txt"
    with said.open("wb") as sink:
        child = subprocess.Popen(
            command(folder, *words, nobody=nobody),
            cwd=ROOT,
            env=environment(folder),
            stdout=sink,
            stderr=sink,
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

    assert node(folder, "model", "activate", "local")["result"] == "activated_local"
    (listed,) = node(folder, "model", "list")["models"]
    assert (listed["release_id"], listed["status"]) == ("local", "active")
    scores = folder / "scores.csv"
    scored = node(folder, "score", str(export), "--out", str(scores))
    assert scored["rows"] == records.height
    assert len(scores.read_text().splitlines()) == records.height + 1

    serve = running(coordinator, "-m", "coordinator", "serve", "--dir", str(coordinator))
    up = running(folder, "-m", "participant", "up", "--dir", str(folder))
    with serve as (server, served):
        wait_for(server, served, "serving 'Test alliance'")
        with up as (child, said):
            wait_for(child, said, "connected as member 1")
            now = SystemClock().now()
            wait_until(lambda: not renewal_due(connection_pair(folder).certificate, now))
            found = statuses(node(folder, "doctor"))
            wanted = ("disk", "process", "grpc", "database", "segments", "audit", "model")
            assert {found[name] for name in wanted} == {"ok"}
            child.send_signal(signal.SIGTERM)
            assert child.wait(PATIENCE_S) == 0, said.read_text()
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0, served.read_text()
    for text in (said.read_text(), served.read_text()):
        assert "denied" not in text.lower()
        assert "error" not in text


def why_no_other_user() -> str:
    """Return why nothing can be run here as another user than this one, or nothing."""
    if os.geteuid() != 0:
        return "only root can start a process as another user"
    try:
        tried = subprocess.run(
            [*AS_NOBODY, sys.executable, "-c", "import participant"],
            cwd=ROOT,
            env=environment(Path("/nonexistent")),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "there is no setpriv here"
    return "" if tried.returncode == 0 else f"another user cannot run this: {tried.stderr[-200:]}"


@pytest.fixture
def own(alliance: Alliance) -> Iterator[Path]:
    """A member's folder that belongs to another user, where that user can reach it."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    folder = shutil.copytree(alliance.dir_of("a"), place / "state")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(place)


@pytest.mark.slow
def test_a_node_works_as_a_user_that_owns_its_state_folder_and_nothing_else(
    alliance: Alliance, own: Path
) -> None:
    if reason := why_no_other_user():
        pytest.skip(reason)
    assert run(own, "-c", "open('/etc/touchstone', 'w')", nobody=True).returncode == 1
    export = write_export(shops(["one", "two"]), own.parent / "shops.csv")
    export.chmod(0o644)
    imported = node(own, "data", "import", str(export), "--kind", "shops", nobody=True)
    assert imported["kept"] == 2
    coordinator = alliance.coordinator_dir
    serve = running(coordinator, "-m", "coordinator", "serve", "--dir", str(coordinator))
    up = running(own, "-m", "participant", "up", "--dir", str(own), nobody=True)
    with serve as (server, served), up as (child, said):
        wait_for(server, served, "serving 'Test alliance'")
        wait_for(child, said, "connected as member 1")
        found = statuses(node(own, "doctor", nobody=True))
        assert {found[name] for name in ("modes", "disk", "process", "grpc", "audit")} == {"ok"}
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 0, said.read_text()
    assert {path.stat().st_uid for path in own.rglob("*")} == {NOBODY}
    assert "denied" not in said.read_text().lower()
