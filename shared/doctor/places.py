"""Files, locks and room: what a state folder is like from outside."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from shared.doctor.report import Check, Examine, fail, ok, skipped, warn
from shared.files import write_atomic

LEAST_FREE = 256 * 1024 * 1024
"""Bytes: with less, neither side can take a release and go on working at the same time."""


NEED_NO_FOLDER = ("python", "packages", "flower", "proxy")
"""Checks of the installation and the environment, which any folder's doctor makes."""


def only_what_is_there(state_dir: Path, checks: Mapping[str, Examine]) -> Mapping[str, Examine]:
    """Return the checks to make: all, or of a folder that does not exist those that need none."""
    if state_dir.is_dir():
        return checks
    missing = fail(
        "folder",
        "no_folder",
        f"there is no such folder: {state_dir}",
        "check --dir, or the variable TOUCHSTONE_DIR",
    )
    rest = [name for name in checks if name not in NEED_NO_FOLDER]
    nothing = [skipped(name, "not looked at: there is no such folder") for name in rest]
    kept = {name: check for name, check in checks.items() if name in NEED_NO_FOLDER}
    return {**kept, "folder": lambda: [missing, *nothing]}


def check_private(
    state_dir: Path, folders: Iterable[str], patterns: Iterable[str]
) -> Iterator[Check]:
    """Check that some folders and files are for their owner only, and that it is this user.

    Args:
        state_dir: a state folder.
        folders: folders in it, by name.
        patterns: files in it, as globs.
    """
    paths = list(_existing(state_dir, folders, patterns))
    open_ones = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_ones:
        mode, right = stat.S_IMODE(path.stat().st_mode), "700" if path.is_dir() else "600"
        yield fail(
            "modes",
            "readable_by_others",
            f"{path.relative_to(state_dir)} can be used by others (mode {mode:04o})",
            f"chmod {right}; if it is a key and others had access, renew or replace it",
        )
    foreign = [path for path in paths if path.stat().st_uid != os.geteuid()]
    if foreign:
        yield warn(
            "modes",
            "another_owner",
            f"{foreign[0].relative_to(state_dir)} belongs to another user than this process",
            "run commands as the user that the service runs as",
        )
    if not open_ones and not foreign:
        yield ok("modes", "keys, secrets and records are for their owner only")


def _existing(state_dir: Path, folders: Iterable[str], patterns: Iterable[str]) -> Iterator[Path]:
    yield from (path for path in (state_dir / name for name in folders) if path.is_dir())
    for pattern in patterns:
        yield from sorted(state_dir.glob(pattern))


def check_process(lock: Path, what: str, hint: str) -> Check:
    """Check whether somebody holds a lock file, without keeping it.

    Args:
        lock: the file.
        what: who would hold it, for people.
        hint: how to start it.
    """
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return warn("process", "not_running", f"{what} has never run in this folder", hint)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        return ok("process", f"{what} is running (process {holder})")
    finally:
        os.close(handle)
    return warn("process", "not_running", f"{what} is not running", hint)


def check_disk(state_dir: Path) -> Check:
    """Check that the disk takes a file, and has room for what is stored once more."""
    probe = state_dir / ".doctor"
    write_atomic(probe, b"doctor\n", mode=0o600)
    probe.unlink()
    free, used = shutil.disk_usage(state_dir).free, stored_bytes(state_dir)
    told = f"{_size(free)} free, the state folder has {_size(used)}"
    if free < LEAST_FREE:
        return fail("disk", "disk_nearly_full", told, f"free at least {_size(LEAST_FREE)}")
    if free < used:
        hint = "an import may need as much again as is stored"
        return warn("disk", "disk_small", told, hint)
    return ok("disk", told)


def stored_bytes(state_dir: Path) -> int:
    """Return the bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(state_dir):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _size(count: int) -> str:
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    value, unit = float(count), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {units[unit]}" if unit else f"{count} B"
