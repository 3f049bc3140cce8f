"""Do the keys and certificates fit, and how long do they last?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509

from participant.node.config import NodeConfig
from participant.node.keystore import (
    KeyStore,
    connection_pair,
    identity_key,
    pinned_authority,
)
from shared.doctor.lifetimes import check_lifetime
from shared.doctor.report import Check, fail
from shared.trust.certificates import (
    check_issued_by,
    identity_public_key,
    load_certificate,
    member_name,
)
from shared.trust.errors import CertificateRefused

_NEW_ALLIANCE = "tell the operator: a new authority means a new alliance"
_RENEW = "keep the node up, or run touchstone-participant cert renew"
_INVITATION = "ask the operator for an invitation under a new name"
_RENEWED_BY = {"connection": _RENEW, "identity": _RENEW, "authority": _NEW_ALLIANCE}
_REPLACED_BY = {"connection": _INVITATION, "identity": _INVITATION, "authority": _NEW_ALLIANCE}


def check_certificates(state_dir: Path, now: datetime) -> Iterator[Check]:
    """Check both certificates, and that they belong to this member, this authority, these keys."""
    NodeConfig.load(state_dir)  # a folder that never joined lacks no backup, but an invitation
    _, authority = pinned_authority(state_dir)
    yield _lasts("authority", authority, now)
    yield from _one("connection", connection_pair(state_dir).certificate, authority, state_dir, now)
    identity = load_certificate(KeyStore.of(state_dir).identity.read_bytes())
    if identity_public_key(identity) != identity_key(state_dir).public_key():
        raise CertificateRefused(
            "identity.pem is not over this member's identity key",
            hint="restore keys/ as a whole from one backup",
        )
    yield from _one("identity", identity, authority, state_dir, now)


def _one(
    name: str,
    certificate: x509.Certificate,
    authority: x509.Certificate,
    state_dir: Path,
    now: datetime,
) -> Iterator[Check]:
    member, named = NodeConfig.load(state_dir).member, member_name(certificate)
    if (named.index, named.member_id) != (member.index, member.member_id):
        yield fail(
            f"certificate_{name}",
            "another_member",
            f"the {name} certificate is another member's",
            "restore keys/ and node.toml from one backup",
        )
        return
    lasts = _lasts(name, certificate, now)
    if lasts.code == "ok":
        check_issued_by(certificate, authority, now)
    yield lasts


def _lasts(name: str, certificate: x509.Certificate, now: datetime) -> Check:
    return check_lifetime(
        name, certificate, now, renewed_by=_RENEWED_BY[name], replaced_by=_REPLACED_BY[name]
    )
