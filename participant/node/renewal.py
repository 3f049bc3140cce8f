"""Renewing this member's certificates: a fresh connection key, the same name and identity key.

Killed anywhere, the node has a pair that fits and that the coordinator admits. The old pair stays
good until the new one is used, and the new one is in force with one rename, that of ``tls.pem``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.issued import check_issued
from participant.node.keystore import (
    ConnectionPair,
    KeyStore,
    connection_pair,
    identity_key,
    passphrase,
    pinned_authority,
)
from participant.node.membership_client import membership
from participant.node.vault import wipe_file
from participant.store import Store
from shared.clock import Clock, SystemClock, rfc3339
from shared.files import write_atomic
from shared.locks import process_lock
from shared.trust.certificates import MemberName, fingerprint, renewal_due
from shared.trust.keys import new_tls_key, write_key
from shared.trust.renewal import RenewalGrant, RenewalRequest, RenewalStatement
from shared.trust.requests import make_request

LOCK_FILE = "renewal.lock"

Exchange = Callable[[RenewalRequest], RenewalGrant]
"""Carries a signed request to the coordinator and its answer back."""


def over_grpc(state_dir: Path) -> Exchange:
    """Return an exchange with the coordinator that a folder joined."""

    def exchange(request: RenewalRequest) -> RenewalGrant:
        with membership(state_dir) as client:
            return client.renew(request)

    return exchange


def renew(state_dir: Path, exchange: Exchange, *, clock: Clock | None = None) -> ConnectionPair:
    """Renew both certificates, whatever their age, and return the new pair.

    Args:
        state_dir: a joined state folder.
        exchange: reaches the coordinator.
        clock: decides whether the new certificates are valid.

    Raises:
        AlreadyRunning: another process is renewing them.
        RenewalRefused: the coordinator does not agree.
        NetworkError: it cannot be reached; other failures keep their own class, too.
        VerificationError: its answer does not fit the request.
        StorageError: the disk refuses; the old pair stays in force.
    """
    clock = clock or SystemClock()
    with process_lock(KeyStore.of(state_dir).folder / LOCK_FILE, "a renewal"):
        _renew(state_dir, exchange, clock)
        return _finish(state_dir, clock)


def renew_if_due(state_dir: Path, exchange: Exchange, *, clock: Clock | None = None) -> bool:
    """Renew when less than a third of the lifetime is left; return whether it was.

    Also finishes what a killed renewal left: old keys are wiped, the audit log is brought up to
    date. Raises as :func:`renew`.
    """
    clock = clock or SystemClock()
    with process_lock(KeyStore.of(state_dir).folder / LOCK_FILE, "a renewal"):
        due = renewal_due(connection_pair(state_dir).certificate, clock.now())
        if due:
            _renew(state_dir, exchange, clock)
        _finish(state_dir, clock)
        return due


def _renew(state_dir: Path, exchange: Exchange, clock: Clock) -> None:
    config, files = NodeConfig.load(state_dir), KeyStore.of(state_dir)
    fresh, identity = new_tls_key(), identity_key(state_dir)
    current = fingerprint(connection_pair(state_dir).certificate)
    statement = RenewalStatement(
        alliance_id=bytes.fromhex(config.alliance.id),
        index=config.member.index,
        member_id=config.member.member_id,
        identity_key=identity.public_key().public_bytes_raw(),
        current=bytes.fromhex(current.replace(":", "")),
        tls_request=make_request(fresh, config.member.member_id),
    )
    grant = exchange(RenewalRequest.sign(statement, identity))
    check_issued(
        grant.tls_certificate,
        grant.identity_certificate,
        authority=pinned_authority(state_dir)[1],
        name=MemberName(config.alliance.id, config.member.index, config.member.member_id),
        tls_key=fresh.public_key(),
        identity_key=identity.public_key(),
        at=clock.now(),
    )
    write_key(files.renewed_key(fresh.public_key()), fresh, passphrase(config))
    write_atomic(files.identity, grant.identity_certificate)
    write_atomic(files.tls, grant.tls_certificate)  # from here on the new pair is in force


def _finish(state_dir: Path, clock: Clock) -> ConnectionPair:
    files, pair = KeyStore.of(state_dir), connection_pair(state_dir)
    unused = [path for path in files.tls_keys() if path != pair.key_path]
    for path in [*unused, *files.leftovers()]:
        wipe_file(path)
    if pair.key_path != files.tls_key:
        _note(state_dir, pair, clock)
    return pair


def _note(state_dir: Path, pair: ConnectionPair, clock: Clock) -> None:
    """Write the renewal into the audit log, once."""
    mark = fingerprint(pair.certificate)
    until = rfc3339(pair.certificate.not_valid_after_utc)
    store = Store.open(state_dir, clock=clock)
    try:
        known = (event.body.get("tls_fingerprint") for event in store.audit.events())
        if mark not in known:
            body = {"tls_fingerprint": mark, "until": until}
            store.audit.append("certificate.renewed", body)
    finally:
        store.close()
