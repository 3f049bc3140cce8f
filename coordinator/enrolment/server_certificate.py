"""The coordinator's own TLS certificate: issued anew in time, and taken up without a restart.

Members trust the authority, not this certificate, so they notice nothing. The key stays: a
certificate over the same key is one file, replaced by one rename, and fits the key at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog
from cryptography import x509

from coordinator.config import CoordinatorConfig
from coordinator.db import Database, Unit
from coordinator.enrolment.files import KeyFiles, load_authority, load_ca, load_server_pair
from shared.errors import TouchstoneError
from shared.files import write_atomic
from shared.trust.certificates import fingerprint, load_certificate, renewal_due, to_pem
from shared.trust.keys import load_tls_key

CHECK_S = 3600.0
"""Seconds between two looks at the certificate's age; it is renewed most of a year ahead."""

_log = structlog.get_logger("certificates")


def renew_server(state_dir: Path, db: Database) -> x509.Certificate:
    """Issue the TLS certificate anew over the same key, for the alliance's host.

    Raises:
        NotFound: no alliance has been founded here.
        KeyUnreadable: a key cannot be used.
        StorageError: the disk refuses; the old certificate stays.
    """
    alliance = db.read("alliance", lambda unit: unit.alliance.get())
    passphrase = CoordinatorConfig.load(state_dir).passphrase()
    files = KeyFiles.of(state_dir)
    public = load_tls_key(files.server_key, passphrase).public_key()
    issued = load_authority(state_dir).issue_server(public, alliance.host, db.clock.now())
    body = {"fingerprint": fingerprint(issued), "until": issued.not_valid_after_utc.isoformat()}

    def work(unit: Unit) -> None:
        unit.audit.append("server.certificate_renewed", body, actor="coordinator")

    db.write("renew_server", work)
    write_atomic(files.server, to_pem(issued))
    return issued


def renew_server_if_due(state_dir: Path, db: Database) -> bool:
    """Renew when less than a third of the lifetime is left; raises as :func:`renew_server`."""
    current = load_certificate(load_server_pair(state_dir)[1])
    if not renewal_due(current, db.clock.now()):
        return False
    renew_server(state_dir, db)
    return True


async def keep_server_certificate(state_dir: Path, db: Database) -> None:
    """Renew in time for as long as the coordinator serves; cancel it to stop."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await asyncio.to_thread(renew_server_if_due, state_dir, db)
        except TouchstoneError as error:
            _log.error("server certificate not renewed", code=error.code)
        except Exception as error:  # noqa: BLE001 - one bad look must not be the last one
            _log.error("server certificate not renewed", error=type(error).__name__)


class ServerCertificate:
    """Server credentials that follow ``server.pem``: every handshake uses the file's newest state.

    Args:
        state_dir: the coordinator's folder.
        members: whether callers must bring a certificate of this alliance.
    """

    def __init__(self, state_dir: Path, *, members: bool) -> None:
        self._dir = state_dir
        self._members = members
        self._seen: tuple[int, int] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that gRPC asks for the current certificate before each handshake.

        Raises:
            NotFound: no alliance has been founded in this folder.
            KeyUnreadable: the server's key cannot be used.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._load(),
            self._fetcher(),  # type: ignore[arg-type] # the stubs forget that None means no change
            require_client_authentication=self._members,
        )

    def _fetcher(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        def newer() -> grpc.ServerCertificateConfiguration | None:
            """Runs in a thread of gRPC; None goes on with the certificate in use."""
            try:
                stamp = self._stamp()
                if stamp == self._seen:
                    return None
                loaded = self._load()
            except (TouchstoneError, OSError) as error:
                _log.error("server certificate not reloaded", error=type(error).__name__)
                return None
            self._seen = stamp
            return loaded

        return newer

    def _stamp(self) -> tuple[int, int]:
        """Return what changes when the file is replaced by a rename."""
        found = KeyFiles.of(self._dir).server.stat()
        return found.st_ino, found.st_mtime_ns

    def _load(self) -> grpc.ServerCertificateConfiguration:
        root = to_pem(load_ca(self._dir)) if self._members else None
        return grpc.ssl_server_certificate_configuration([load_server_pair(self._dir)], root)
