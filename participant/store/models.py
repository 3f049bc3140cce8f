"""The tables of ``store/touchstone.db``. Times are aware UTC; JSON columns hold plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, LargeBinary, TypeDecorator, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps no zone, so it is taken off and put back here."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        """Store UTC; refuse a naive time, whose zone nobody knows."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time has no place in the store")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class StoreTable(SQLModel, registry=registry()):
    """Base of these tables: a registry of their own, apart from any other database's."""


def _time() -> Column[datetime]:
    return Column(UtcTime(), nullable=False)


class DeploymentRow(StoreTable, table=True):
    """One decision about a model release at this member."""

    __tablename__ = "deployment"

    id: int | None = Field(default=None, primary_key=True)
    release_id: str = Field(index=True)
    action: str
    reason: str
    metrics: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    at: datetime = Field(sa_column=_time())


class PrivacyCharge(StoreTable, table=True):
    """One masked vector's use of the records; spent is spent, rows are never changed."""

    __tablename__ = "privacy_charge"
    __table_args__ = (UniqueConstraint("run_id", "slot", "kind"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(index=True)
    round: int
    slot: str
    kind: str
    mechanism: str
    amount: float
    at: datetime = Field(sa_column=_time())


class AuditEventRow(StoreTable, table=True):
    """One link of the hash chain (shared.audit.chain); ``at`` and ``body`` as hashed."""

    __tablename__ = "audit_event"

    seq: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: str
    kind: str = Field(index=True)
    body: str
    prev_hash: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False, unique=True))


class ImportedFile(StoreTable, table=True):
    """One file that was imported completely with one mapping."""

    __tablename__ = "import_file"

    sha256: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    mapping_sha256: str = Field(primary_key=True)
    rows_kept: int
    rows_rejected: int
    at: datetime = Field(sa_column=_time())


class SegmentRow(StoreTable, table=True):
    """The catalogue of record segments: a file that is not listed here does not count.

    ``replaced`` is how many of its rows are further versions of records stored before them.
    """

    __tablename__ = "segment"

    kind: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    rows: int
    replaced: int
    sha256: str


class RunConsent(StoreTable, table=True):
    """What this member answered to a run's manifest, and why."""

    __tablename__ = "run_consent"

    run_id: str = Field(primary_key=True)
    decision: str
    reason_code: str
    at: datetime = Field(sa_column=_time())
