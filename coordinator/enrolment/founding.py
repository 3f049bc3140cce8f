"""Founding an alliance: keys, certificates, settings, and last the row that makes it one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from coordinator.config import CoordinatorConfig, write_config
from coordinator.db import Database, Unit
from coordinator.db.records import Alliance
from coordinator.enrolment.files import KeyFiles, load_ca
from shared.clock import Clock, SystemClock
from shared.errors import NotFound, StateError
from shared.files import storage_error, write_atomic
from shared.trust.authority import Authority, found_authority
from shared.trust.certificates import alliance_id_of, fingerprint, to_pem
from shared.trust.keys import (
    ensure_identity_key,
    ensure_tls_key,
    private_folder,
)
from shared.trust.names import as_ip, check_alliance_name, check_host, check_port

DEFAULT_PORT = 7443


@dataclass(frozen=True)
class Founded:
    """The alliance of a folder; ``fresh`` tells whether this call founded it."""

    alliance: Alliance
    fresh: bool


def found(
    state_dir: Path,
    *,
    name: str,
    host: str,
    port: int = DEFAULT_PORT,
    passphrase_file: Path | None = None,
    clock: Clock | None = None,
) -> Founded:
    """Found an alliance in ``state_dir``, or return the one that is there, unchanged.

    Every step can be repeated, and the alliance exists from the moment its database row does:
    a process killed before that leaves keys that the next call goes on with.

    Args:
        state_dir: the coordinator's folder; created with mode 0700.
        name: what people call the alliance.
        host: DNS name or address by which members reach the coordinator.
        port: mutual-TLS port; enrolment listens on the next one.
        passphrase_file: its first line encrypts the private keys.
        clock: for the certificates' validity.

    Raises:
        BadInput: a name, host or port is malformed.
        StateError: the folder cannot be used, or another founding is under way.
        KeyUnreadable: a key left by an earlier attempt, or the passphrase file, is unusable.
    """
    check_alliance_name(name)
    check_host(host)
    check_port(port)
    clock = clock or SystemClock()
    private_folder(state_dir)
    with _only_one(state_dir):
        existing = _existing(state_dir, clock)
        if existing is not None:
            return Founded(existing, fresh=False)
        write_config(state_dir, bind=_bind_for(host), passphrase_file=passphrase_file)
        _make_keys(state_dir, name, host, clock)
        ca = load_ca(state_dir)
        alliance = Alliance(
            id=alliance_id_of(ca),
            name=name,
            host=host,
            port=port,
            enrolment_port=port + 1,
            ca_fingerprint=fingerprint(ca),
            created_at=clock.now(),
        )
        _write_row(state_dir, alliance, clock)
        return Founded(alliance, fresh=True)


def check_founding(state_dir: Path, *, name: str, host: str, port: int) -> Alliance | None:
    """Return the alliance that is in ``state_dir``, if any; change nothing.

    Raises:
        BadInput: a name, host or port is malformed.
        StateError: the folder cannot be used.
    """
    check_alliance_name(name)
    check_host(host)
    check_port(port)
    try:
        return _existing(state_dir, SystemClock(), create=False)
    except NotFound:
        return None


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    path = state_dir / ".founding.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StateError("another process is founding an alliance in this folder") from error
    finally:
        os.close(handle)


def _existing(state_dir: Path, clock: Clock, *, create: bool = True) -> Alliance | None:
    if not (state_dir / "coordinator.toml").exists():
        return None
    db = Database.open(state_dir, clock=clock, create=create)
    try:
        alliance = db.read("find_alliance", lambda unit: unit.alliance.find())
    finally:
        db.close()
    if alliance is not None and fingerprint(load_ca(state_dir)) != alliance.ca_fingerprint:
        raise StateError(
            "the database belongs to another alliance than the keys in this folder",
            hint="restore keys and database from the same backup",
        )
    return alliance


def _bind_for(host: str) -> str:
    address = as_ip(host)
    loopback = host == "localhost" or (address is not None and address.is_loopback)
    if loopback:
        return "[::1]" if address == ip_address("::1") else "127.0.0.1"
    return "0.0.0.0"  # noqa: S104 - a coordinator is there to be reached


def _make_keys(state_dir: Path, name: str, host: str, clock: Clock) -> None:
    files = KeyFiles.of(state_dir)
    private_folder(files.folder)
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    ca_key = ensure_tls_key(files.ca_key, passphrase)
    server_key = ensure_tls_key(files.server_key, passphrase)
    ensure_identity_key(files.signing_key, passphrase)
    authority = Authority(ca_key, found_authority(ca_key, name, clock.now()))
    server = authority.issue_server(server_key.public_key(), host, clock.now())
    write_atomic(files.ca, to_pem(authority.certificate))
    write_atomic(files.server, to_pem(server))


def _write_row(state_dir: Path, alliance: Alliance, clock: Clock) -> None:
    def work(unit: Unit) -> None:
        unit.alliance.found(alliance)
        body = {"alliance_id": alliance.id, "ca_fingerprint": alliance.ca_fingerprint}
        unit.audit.append("alliance.founded", body, actor="operator")

    db = Database.open(state_dir, clock=clock, create=True)
    try:
        db.write("found_alliance", work)
    finally:
        db.close()
    for path in state_dir.glob("touchstone.db*"):
        path.chmod(0o600)
