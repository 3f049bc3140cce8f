"""A real small disk that is full or read-only, in a process that alone sees it.

``python -m tests.support.small_disk`` enters mount namespaces of its own, as root or in a user
namespace, mounts a tmpfs of some megabytes, and runs commands on a state folder there: what SQLite
and native libraries do is what a real disk does to them. The disk is gone when the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
FULL, READ_ONLY = "full", "read-only"
SIZE = 4 * 1024 * 1024

_NEW_NAMES, _NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
_RDONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 32, 1 << 14, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(what: str, where: Path, flags: int, options: str = "") -> None:
    _checked(
        _libc.mount(
            what.encode(), str(where).encode(), what.encode(), flags, options.encode() or None
        )
    )


def enter() -> None:
    """Give this process mounts of its own.

    Raises:
        OSError: the system does not permit it.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _checked(_libc.unshare(_NEW_NAMES))
    else:
        _checked(_libc.unshare(_NEW_USER | _NEW_NAMES))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    _mount("none", Path("/"), _RECURSIVE | _PRIVATE)


class SmallDisk:
    """A tmpfs at a folder of its own."""

    def __init__(self, size: int = SIZE) -> None:
        self.path = Path(tempfile.mkdtemp())
        self._size = size
        _mount("tmpfs", self.path, 0, f"size={size},mode=0700")
        self._filler = self.path / "filler"

    def fill(self) -> None:
        """Leave no block free."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        """Make room again."""
        self._filler.unlink()

    def read_only(self) -> None:
        """Turn it read-only."""
        _mount("tmpfs", self.path, _REMOUNT | _RDONLY, f"size={self._size}")

    def leave(self) -> None:
        """Unmount it."""
        _checked(_libc.umount2(str(self.path).encode(), 0))
        self.path.rmdir()


def _app(side: str) -> Any:
    if side == "participant":
        from participant.cli.main import app

        return app
    from coordinator.cli.main import app as coordinator

    return coordinator


def _said(side: str, words: list[str]) -> dict[str, Any]:
    from shared.console import err, out, run_app

    sys.argv = [f"touchstone-{side}", *words]
    text, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(told):
        err.file, out.file = told, text
        code = run_app(_app(side), sys.argv[0])
    return {"code": code, "out": text.getvalue(), "err": told.getvalue()}


def run_on(fault: str, side: str, source: str, commands: list[list[str]]) -> list[dict[str, Any]]:
    """Run commands on a copy of a state folder on a disk with a fault; return what each said."""
    disk = SmallDisk()
    folder = disk.path / "state"
    shutil.copytree(source, folder)
    disk.fill() if fault == FULL else disk.read_only()
    told = [_run(side, words, disk, folder) for words in commands]
    disk.leave()
    return told


def _run(side: str, words: list[str], disk: SmallDisk, folder: Path) -> dict[str, Any]:
    before = _content(folder)
    line = [word.replace("DISK", str(disk.path)) for word in words]
    said = _said(side, [*line, "--dir", str(folder)])
    after = _content(folder)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return {**said, "changed": sorted(changed)}


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        # A full disk lets files be made that take no room: a lock, SQLite's shared memory.
        if path.is_file() and path.stat().st_size and path.suffix != ".db-shm"
    }


def main() -> None:
    """Run what stdin says, ``[[function, arguments], …]``, and print what each returned."""
    from tests.support import small_disk_services

    jobs = json.load(sys.stdin)
    enter()
    functions = {"run_on": run_on, **small_disk_services.FUNCTIONS}
    results = [functions[name](**arguments) for name, arguments in jobs]
    sys.stdout.write(json.dumps(results))


def on_small_disk(*jobs: tuple[str, dict[str, Any]]) -> list[Any]:
    """Do jobs in a child process of this kind; return what they returned."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.small_disk"],
        cwd=ROOT,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout)
    return results


@cache
def why_not() -> str:
    """Return why small disks cannot be had here, or nothing."""
    code = "from tests.support.small_disk import *; enter(); SmallDisk().leave()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1:]
    return "" if done.returncode == 0 else f"needs the right to mount: {last}"


if __name__ == "__main__":
    main()
