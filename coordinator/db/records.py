"""What the database hands out: frozen values, free of any session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class MemberStatus(StrEnum):
    """Whether a member may connect."""

    ACTIVE = "active"
    REVOKED = "revoked"


class RunState(StrEnum):
    """States of a run; the last three are terminal."""

    PENDING = "pending"
    SETUP = "setup"
    RUNNING = "running"
    RELEASING = "releasing"
    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in {RunState.COMPLETED, RunState.ABORTED, RunState.FAILED}


@dataclass(frozen=True)
class Alliance:
    """The alliance; ``id`` is 32 hex digits, ``roster_epoch`` grows as members come and go."""

    id: str
    name: str
    host: str
    port: int
    enrolment_port: int
    ca_fingerprint: str
    created_at: datetime
    roster_epoch: int = 0


@dataclass(frozen=True)
class Member:
    """A member; ``public_key`` is its Ed25519 key, 64 hex digits, certificates are PEM."""

    index: int
    member_id: str
    public_key: str
    tls_fingerprint: str
    identity_fingerprint: str
    tls_certificate: str = field(repr=False)
    identity_certificate: str = field(repr=False)
    joined_at: datetime
    status: MemberStatus = MemberStatus.ACTIVE
    revoked_at: datetime | None = None
    last_seen_at: datetime | None = None


@dataclass(frozen=True)
class Renewal:
    """Certificates issued to a member that has not used them yet; fingerprints as in Member."""

    index: int
    tls_fingerprint: str
    identity_fingerprint: str
    tls_certificate: str = field(repr=False)
    identity_certificate: str = field(repr=False)
    issued_at: datetime


@dataclass(frozen=True)
class Invitation:
    """A one-time token, known by its SHA-256 in hex."""

    member_id: str
    token_hash: str = field(repr=False)
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    replaced_at: datetime | None = None


@dataclass(frozen=True)
class Run:
    """A training run; ``run_id`` is 32 hex digits, ``manifest`` its signed canonical bytes."""

    run_id: str
    created_at: datetime
    rounds: int
    state: RunState = RunState.PENDING
    reason_code: str = ""
    reason: str = ""
    current_round: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    manifest: bytes = field(default=b"", repr=False)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    release_id: str | None = None


@dataclass(frozen=True)
class Round:
    """One attempt at one round of a run; lists hold member indices, bytes are alliance-wide."""

    run_id: str
    round: int
    attempt: int
    state: str
    started_at: datetime
    slot: int | None = None
    session: str = ""
    listed: tuple[int, ...] = ()
    participants: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    ended_at: datetime | None = None
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True)
class Refusal:
    """A member's refusal of a run, by stable reason code."""

    run_id: str
    member_index: int
    reason_code: str
    at: datetime


@dataclass(frozen=True)
class Release:
    """A released bundle: ``path`` is relative to the coordinator's folder, ``sha256`` is hex."""

    release_id: str
    run_id: str
    sequence: int
    created_at: datetime
    manifest: bytes = field(repr=False)
    path: str
    sha256: str


@dataclass(frozen=True)
class AuditEvent:
    """One event of the audit log, ``hash`` as 32 bytes."""

    seq: int
    at: str
    kind: str
    actor: str
    body: Mapping[str, Any]
    prev_hash: bytes = field(repr=False)
    hash: bytes = field(repr=False)
