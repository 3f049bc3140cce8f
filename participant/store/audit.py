"""The node's append-only audit log: rows in SQLite, arithmetic in shared.audit.chain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlmodel import Session, col, select

from participant.store.database import Database
from participant.store.models import AuditEventRow
from shared.audit.chain import (
    GENESIS,
    ChainedEvent,
    Head,
    canonical_body,
    event_hash,
    verify_chain,
)
from shared.clock import Clock, rfc3339
from shared.errors import BadInput, VerificationError

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class AuditLog:
    """Who decided what, and when; nothing in it can be changed unnoticed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(
        self, kind: str, body: Mapping[str, Any], *, session: Session | None = None
    ) -> ChainedEvent:
        """Add one event at the end of the chain.

        Args:
            kind: What happened, as ``noun.verb`` in lower case, such as ``data.imported``.
            body: JSON-able details; never a secret or a record's content.
            session: A write transaction to take part in, so that the event and what it tells of
                become durable together; by default the event has its own.

        Raises:
            BadInput: the kind is not ``noun.verb`` or the body is not JSON.
            StorageError: the event could not be written.
        """
        if not _KIND.fullmatch(kind):
            raise BadInput(f"{kind!r} is not an audit event's kind", hint="write noun.verb")
        if session is not None:
            return self._append(session, kind, body)
        with self._database.transaction() as own:
            return self._append(own, kind, body)

    def events(self, *, after: int = 0) -> Iterator[ChainedEvent]:
        """Yield events in order, from sequence number ``after`` + 1."""
        with self._database.reading() as session:
            rows = session.exec(
                select(AuditEventRow)
                .where(col(AuditEventRow.seq) > after)
                .order_by(col(AuditEventRow.seq))
                .execution_options(yield_per=1000)
            )
            for row in rows:
                yield _event(row)

    def of_kind(self, kind: str) -> list[ChainedEvent]:
        """Return all events of one kind, oldest first."""
        query = select(AuditEventRow).where(AuditEventRow.kind == kind)
        with self._database.reading() as session:
            return [_event(row) for row in session.exec(query.order_by(col(AuditEventRow.seq)))]

    def head(self) -> Head:
        """Return the last event's number and hash without proving the chain."""
        with self._database.reading() as session:
            row = _last(session)
            return Head(row.seq, row.hash) if row else Head(0, GENESIS)

    def verify(self, *, anchor: Head | None = None) -> Head:
        """Prove the whole chain and return its head.

        Args:
            anchor: A head noted earlier that the chain must still contain; without one, events
                cut off the end cannot be noticed.

        Raises:
            VerificationError: the chain does not hold.
        """
        return verify_chain(self.events(), anchor=anchor)

    def _append(self, session: Session, kind: str, body: Mapping[str, Any]) -> ChainedEvent:
        last = _last(session)
        seq, prev_hash = (last.seq + 1, last.hash) if last else (1, GENESIS)
        at = rfc3339(self._clock.now())
        row = AuditEventRow(
            seq=seq,
            at=at,
            kind=kind,
            body=canonical_body(body),
            prev_hash=prev_hash,
            hash=event_hash(prev_hash, seq, at, kind, body),
        )
        session.add(row)
        session.flush()
        return _event(row)


def _last(session: Session) -> AuditEventRow | None:
    return session.exec(select(AuditEventRow).order_by(col(AuditEventRow.seq).desc())).first()


def _event(row: AuditEventRow) -> ChainedEvent:
    try:
        body = json.loads(row.body)
    except ValueError as error:
        raise VerificationError(f"audit event {row.seq} was altered") from error
    return ChainedEvent(row.seq, row.at, row.kind, body, row.prev_hash, row.hash)
