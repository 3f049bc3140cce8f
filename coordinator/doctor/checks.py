"""The checks that only a coordinator needs: its settings, keys, database and ports."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from coordinator.config import CoordinatorConfig
from coordinator.db import Database
from coordinator.db.database import FILE_NAME
from coordinator.db.schema import HEAD
from coordinator.enrolment.files import (
    KeyFiles,
    load_authority,
    load_ca,
    load_server_pair,
    load_signing_key,
)
from shared.doctor.lifetimes import check_lifetime
from shared.doctor.report import Check, Status, attempt, fail, ok, skipped, warn
from shared.doctor.sqlite_file import check_integrity, check_schema
from shared.errors import StateError
from shared.trust.certificates import check_issued_by, fingerprint, load_certificate
from shared.trust.errors import CertificateRefused
from shared.trust.keys import load_tls_key

TIMEOUT_S = 5.0

FOLDERS = (".", "keys", "runs", "releases")
FILES = ("coordinator.toml", "keys/*.key.pem", "touchstone.db*")

_INIT = "touchstone-coordinator init"


def check_config(state_dir: Path) -> Check:
    """Check ``coordinator.toml``."""
    config = CoordinatorConfig.load(state_dir)
    kind = "PostgreSQL" if config.database.url else "SQLite"
    return ok("config", f"listens on {config.server.bind}, {kind}")


def check_certificates(state_dir: Path, now: datetime) -> Iterator[Check]:
    """Check both certificates, and that every key is there and fits."""
    authority, server = load_ca(state_dir), load_certificate(load_server_pair(state_dir)[1])
    new = "a new authority means a new alliance"
    yield check_lifetime("authority", authority, now, renewed_by=new, replaced_by=new)
    renew = "touchstone-coordinator cert renew, or restart serve"
    lasts = check_lifetime("server", server, now, renewed_by=renew, replaced_by=renew)
    yield lasts
    if lasts.status is not Status.FAIL:
        check_issued_by(server, authority, now)
    yield _keys_fit(state_dir)


def _keys_fit(state_dir: Path) -> Check:
    load_signing_key(state_dir)
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    files, authority = KeyFiles.of(state_dir), load_authority(state_dir)
    server = load_certificate(files.server.read_bytes())
    if authority.key.public_key() != authority.certificate.public_key():
        raise CertificateRefused("ca.pem is not over the authority's key")
    if load_tls_key(files.server_key, passphrase).public_key() != server.public_key():
        raise CertificateRefused("server.pem is not over the server's key")
    return ok("keys", "every key is there and fits its certificate")


PORTS = ("port", "enrolment_port")


def check_database(state_dir: Path, *, offline: bool) -> Iterator[Check]:
    """Check the database, and what rests on it: the audit log, and the ports that it names.

    A database that is damaged or of another version is not opened: opening would migrate it.
    """
    found = attempt("database", lambda: _as_it_lies(state_dir))
    yield from found
    if found[-1].status is not Status.OK:
        yield from (skipped(name, f"not looked at: {found[-1].text}") for name in ("audit", *PORTS))
        return
    yield from attempt("audit", lambda: _audit(state_dir))
    if offline:
        yield from (skipped(name, "not tried: --offline") for name in PORTS)
    else:
        yield from attempt("port", lambda: check_ports(state_dir))


def _as_it_lies(state_dir: Path) -> Check:
    if CoordinatorConfig.load(state_dir).database.url:
        Database.open(state_dir).close()
        return ok("database", f"PostgreSQL answers, schema {HEAD}")
    path = state_dir / FILE_NAME
    if not path.exists():
        return fail("database", "no_alliance", "there is no alliance in this folder", _INIT)
    check_integrity(path)
    return check_schema(path, HEAD, _INIT)


def _audit(state_dir: Path) -> Check:
    db = Database.open(state_dir)
    try:
        alliance = db.read("doctor", lambda unit: unit.alliance.get())
        db.read("doctor", lambda unit: unit.audit.verify())
    finally:
        db.close()
    if fingerprint(load_ca(state_dir)) != alliance.ca_fingerprint:
        raise StateError(
            "the database belongs to another alliance than the keys in this folder",
            hint="restore keys and database from the same backup",
        )
    return ok("audit", "the audit log's chain holds, and the keys are this alliance's")


def check_ports(state_dir: Path) -> Iterator[Check]:
    """Check that both ports answer, by the name that members use, with the server's certificate."""
    db = Database.open(state_dir)
    try:
        alliance = db.read("doctor", lambda unit: unit.alliance.get())
    finally:
        db.close()
    context = ssl.create_default_context(cafile=str(KeyFiles.of(state_dir).ca))
    for name, port in zip(PORTS, (alliance.port, alliance.enrolment_port), strict=True):
        yield _answers(name, alliance.host, port, context)


def _answers(name: str, host: str, port: int, context: ssl.SSLContext) -> Check:
    where = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ok(name, f"{where} answers with this alliance's certificate")
    except socket.gaierror:
        text = f"the name {host} cannot be looked up from here"
        return warn(name, "dns_unknown", text, "members must be able to look it up")
    except ssl.SSLError as error:
        text = f"what answers at {where} is not this coordinator: {error.reason}"
        return fail(name, "tls_failed", text, "another service may have the port")
    except OSError as error:
        text = f"{where} does not answer: {error.strerror or type(error).__name__}"
        hint = "start touchstone-coordinator serve; behind a router this machine may not reach it"
        return warn(name, "not_serving", text, hint)
