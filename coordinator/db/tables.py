"""The tables, as rows. They stay inside :mod:`coordinator.db`; records leave it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, LargeBinary
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from coordinator.db.columns import UtcDateTime


class Table(SQLModel, registry=registry()):
    """Root of these tables: metadata of their own, apart from a participant's in one process."""


class AllianceRow(Table, table=True):
    """The one alliance of this coordinator; ``id`` is its hex id."""

    __tablename__ = "alliance"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=64)
    host: str = Field(max_length=253)
    port: int
    enrolment_port: int
    ca_fingerprint: str = Field(max_length=95)
    roster_epoch: int = Field(default=0)
    created_at: datetime = Field(sa_type=UtcDateTime)


class MemberRow(Table, table=True):
    """A member that joined; rows are never deleted, so that no index is used twice."""

    __tablename__ = "member"

    index: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    member_id: str = Field(unique=True, max_length=40)
    public_key: str = Field(unique=True, max_length=64)
    tls_fingerprint: str = Field(unique=True, max_length=95)
    identity_fingerprint: str = Field(max_length=95)
    tls_certificate: str
    identity_certificate: str
    status: str = Field(max_length=16)
    joined_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_seen_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RenewalRow(Table, table=True):
    """Certificates issued to a member and not used yet; its first use moves them to the member."""

    __tablename__ = "renewal"

    id: int | None = Field(default=None, primary_key=True)
    index: int = Field(index=True, foreign_key="member.index")
    tls_fingerprint: str = Field(unique=True, max_length=95)
    identity_fingerprint: str = Field(max_length=95)
    tls_certificate: str
    identity_certificate: str
    issued_at: datetime = Field(sa_type=UtcDateTime)


class InvitationRow(Table, table=True):
    """A one-time token, as its SHA-256; ``replaced_at`` is set when a newer one is written."""

    __tablename__ = "invitation"

    id: int | None = Field(default=None, primary_key=True)
    member_id: str = Field(index=True, max_length=40)
    token_hash: str = Field(unique=True, max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    replaced_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RunRow(Table, table=True):
    """A training run and its one state."""

    __tablename__ = "run"

    run_id: str = Field(primary_key=True, max_length=32)
    created_at: datetime = Field(sa_type=UtcDateTime)
    state: str = Field(index=True, max_length=16)
    reason_code: str = Field(default="", max_length=64)
    reason: str = Field(default="")
    rounds: int
    current_round: int = Field(default=0)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    manifest: bytes = Field(default=b"", sa_type=LargeBinary)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    release_id: str | None = Field(default=None, max_length=32)


class RoundRow(Table, table=True):
    """One attempt at one round; the three lists hold member indices."""

    __tablename__ = "round"

    run_id: str = Field(primary_key=True, foreign_key="run.run_id", max_length=32)
    round: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    attempt: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    slot: int | None = Field(default=None)
    session: str = Field(default="", max_length=32)
    state: str = Field(max_length=16)
    listed: list[int] = Field(default_factory=list, sa_type=JSON)
    participants: list[int] = Field(default_factory=list, sa_type=JSON)
    survivors: list[int] = Field(default_factory=list, sa_type=JSON)
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    bytes_up: int = Field(default=0, sa_type=BigInteger)
    bytes_down: int = Field(default=0, sa_type=BigInteger)


class RefusalRow(Table, table=True):
    """A member's refusal to take part in a run."""

    __tablename__ = "refusal"

    run_id: str = Field(primary_key=True, foreign_key="run.run_id", max_length=32)
    member_index: int = Field(primary_key=True, foreign_key="member.index")
    reason_code: str = Field(max_length=64)
    at: datetime = Field(sa_type=UtcDateTime)


class ReleaseRow(Table, table=True):
    """A released model bundle; ``sequence`` rises by one with every release."""

    __tablename__ = "release"

    release_id: str = Field(primary_key=True, max_length=32)
    run_id: str = Field(foreign_key="run.run_id", unique=True, max_length=32)
    sequence: int = Field(unique=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    manifest: bytes = Field(sa_type=LargeBinary)
    path: str
    sha256: str = Field(max_length=64)


class AuditRow(Table, table=True):
    """One link of the hash-chained audit log; ``at`` is the very text that was hashed."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_kind", "kind"),)

    seq: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: str = Field(max_length=32)
    kind: str = Field(max_length=64)
    actor: str = Field(max_length=64)
    body: str
    prev_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)
