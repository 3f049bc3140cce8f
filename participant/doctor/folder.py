"""Is the state folder whole, private, roomy enough, and in the right hands?"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from participant.doctor.report import Check, fail, ok, warn
from participant.node.config import NodeConfig
from participant.node.daemon import LOCK_FILE
from participant.node.peers import Peers
from participant.node.policy import load_policy
from participant.node.vault import boot_binding
from shared.files import write_atomic

LEAST_FREE = 256 * 1024 * 1024
"""Bytes: a node with less cannot take a release and a segment at the same time."""


def check_config(state_dir: Path) -> Check:
    """Check ``node.toml``."""
    config = NodeConfig.load(state_dir)
    return ok("config", f"member {config.member.member_id!r} of {config.alliance.name!r}")


def check_policy(state_dir: Path) -> Check:
    """Check ``policy.toml``."""
    if not load_policy(state_dir / "policy.toml").allowed_purposes:
        return warn(
            "policy",
            "policy_refuses_all",
            "allowed_purposes is empty, so every run is refused",
            "name the purposes this member agrees to in policy.toml",
        )
    return ok("policy", "the policy is valid")


def check_peers(state_dir: Path) -> Check:
    """Check that a roster was accepted, and that as many peers are pinned as the policy demands."""
    peers, needed = Peers(state_dir), load_policy(state_dir / "policy.toml").min_known_peers
    if peers.roster() is None:
        return warn(
            "peers",
            "no_roster",
            "no roster was accepted, so every run is refused",
            "touchstone-participant peers accept, then pin those you have talked to",
        )
    if len(peers.pinned_indices()) < needed:
        return warn(
            "peers",
            "too_few_pinned",
            f"fewer peers are pinned than min_known_peers = {needed}, so every run is refused",
            "talk to more members and pin their fingerprints with peers pin",
        )
    return ok("peers", "a roster is accepted, and enough peers are pinned")


def check_modes(state_dir: Path) -> Iterator[Check]:
    """Check that nobody else on this machine can read keys, secrets or records."""
    open_ones = [path for path in _private(state_dir) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_ones:
        mode, right = stat.S_IMODE(path.stat().st_mode), "700" if path.is_dir() else "600"
        yield fail(
            "modes",
            "readable_by_others",
            f"{path.relative_to(state_dir)} can be used by others (mode {mode:04o})",
            f"chmod {right}; if it is a key and others had access, renew or replace it",
        )
    foreign = [path for path in _private(state_dir) if path.stat().st_uid != os.geteuid()]
    if foreign:
        yield warn(
            "modes",
            "another_owner",
            f"{foreign[0].relative_to(state_dir)} belongs to another user than this process",
            "run commands as the user that the node runs as",
        )
    if not open_ones and not foreign:
        yield ok("modes", "keys, secrets and records are for their owner only")


def _private(state_dir: Path) -> Iterator[Path]:
    for folder in (state_dir, state_dir / "keys", state_dir / "secsum", state_dir / "store"):
        if folder.is_dir():
            yield folder
    for pattern in ("*.toml", "keys/*.key.pem", "secsum/*.bin", "store/touchstone.db*"):
        yield from sorted(state_dir.glob(pattern))


def check_process(state_dir: Path) -> Check:
    """Check whether the node is up, by its lock; nothing is changed."""
    try:
        handle = os.open(state_dir / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return _not_running("the node has never run in this folder")
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        return ok("process", f"the node is running (process {holder})")
    finally:
        os.close(handle)
    return _not_running("the node is not running")


def _not_running(text: str) -> Check:
    return warn("process", "not_running", text, "start it with touchstone-participant up")


def check_secrets(state_dir: Path) -> Check:
    """Check that the secrets of open runs, if any, are of this boot of the machine."""
    folder = state_dir / "secsum"
    sessions = len(list(folder.glob("session-*.bin")))
    mark = folder / "boot"
    if sessions and (not mark.exists() or mark.read_bytes() != boot_binding()):
        return warn(
            "secrets",
            "secrets_of_another_boot",
            f"{sessions} open sessions are of another boot of this machine",
            "nothing to do: the node wipes them when it starts and joins the next session",
        )
    return ok("secrets", f"{sessions} open sessions, of this boot")


def check_disk(state_dir: Path) -> Check:
    """Check that the disk takes a file, and has room for the records once more."""
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
