"""A PostgreSQL server of the test's own: a temporary folder, a Unix socket, no TCP, thrown away."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE_S

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian keeps the servers, one folder a version, none of them on the path."""

USERS = ("postgres", "nobody")
"""Who runs the server where the tests run as root, as PostgreSQL refuses to."""


def _binaries() -> Path | None:
    """Return the folder of the newest server's programs, or None."""
    found = [path for path in INSTALLED.glob("*/bin") if (path / "initdb").exists()]
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: path.parent.name, default=None)


def missing() -> str:
    """Return why no server can be started here, or nothing."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if _binaries() is None:
        return "no PostgreSQL server is installed (initdb)"
    return ""


def _as_user(folder: Path) -> dict[str, Any]:
    """Return what lets a subprocess run without root's rights, in a folder of its own."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next(names[name] for name in USERS if name in names)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def server() -> Iterator[str]:
    """Start an empty server and yield the URL of its database."""
    programs = _binaries()
    assert programs is not None
    # Not pytest's folder: root's is closed to others, and a socket's path has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        with _running(programs, folder):
            yield f"postgresql+psycopg://touchstone@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(programs: Path, folder: Path) -> Iterator[None]:
    options: dict[str, Any] = {
        "cwd": folder, "env": {"LC_ALL": "C", "PATH": os.defpath}, **_as_user(folder)
    }  # fmt: skip
    data = folder / "data"
    init = [programs / "initdb", "-D", data, "-U", "touchstone", "--auth=trust", "--no-sync"]
    subprocess.run(
        [*init, "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, timeout=PATIENCE_S, **options,
    )  # fmt: skip
    # It is thrown away at the end, so nothing need survive a crash.
    start = [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([*start, "-c", "fsync=off"], stdout=log, stderr=log, **options)
    try:
        _wait(programs, folder, child)
        yield
    finally:
        child.send_signal(signal.SIGINT)  # closes its connections and ends
        child.wait(PATIENCE_S)


def _wait(programs: Path, folder: Path, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    ready = [programs / "pg_isready", "-q", "-h", folder, "-U", "touchstone", "-d", "postgres"]
    while subprocess.run(ready, check=False).returncode:
        said = (folder / "log").read_text(errors="replace")[-2000:]
        assert child.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
