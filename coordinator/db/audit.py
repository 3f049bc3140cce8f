"""The append-only, hash-chained log of what the operator and the members did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlmodel import Session, col, select

from coordinator.db.records import AuditEvent
from coordinator.db.tables import AuditRow
from shared.audit.chain import (
    GENESIS,
    ChainedEvent,
    Head,
    canonical_body,
    event_hash,
    verify_chain,
)
from shared.clock import Clock, rfc3339


def _event(row: AuditRow) -> AuditEvent:
    return AuditEvent(**{**row.model_dump(), "body": json.loads(row.body)})


def _chained(row: AuditRow) -> ChainedEvent:
    body = {"actor": row.actor, "body": json.loads(row.body)}
    return ChainedEvent(row.seq, row.at, row.kind, body, row.prev_hash, row.hash)


class AuditLog:
    """Appends to and proves the chain; the hash covers the actor as well as the body."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def append(
        self, kind: str, body: Mapping[str, Any] | None = None, *, actor: str = "coordinator"
    ) -> AuditEvent:
        """Add one event in the caller's transaction and return it.

        Args:
            kind: dotted lower case, such as ``member.joined``.
            body: JSON values; never secrets, never what one member reported about its data.
            actor: ``coordinator``, ``operator`` or a member id.

        Raises:
            BadInput: the body is not JSON.
        """
        last = self._session.exec(select(AuditRow).order_by(col(AuditRow.seq).desc())).first()
        seq, prev = (1, GENESIS) if last is None else (last.seq + 1, last.hash)
        at, text = rfc3339(self._clock.now()), canonical_body(body or {})
        digest = event_hash(prev, seq, at, kind, {"actor": actor, "body": json.loads(text)})
        row = AuditRow(
            seq=seq, at=at, kind=kind, actor=actor, body=text, prev_hash=prev, hash=digest
        )
        self._session.add(row)
        self._session.flush()
        return _event(row)

    def verify(self, anchor: Head | None = None) -> Head:
        """Prove the whole chain and return its head.

        Raises:
            VerificationError: an event is missing, altered or out of order, or the chain does
                not pass through ``anchor``.
        """
        return verify_chain(map(_chained, self._rows()), anchor=anchor)

    def events(self, *, kind: str = "", last: int | None = None) -> list[AuditEvent]:
        """Return events in order, of one kind or of all, the ``last`` of them or all."""
        query = select(AuditRow).order_by(col(AuditRow.seq).desc())
        if kind:
            query = query.where(AuditRow.kind == kind)
        if last is not None:
            query = query.limit(last)
        return [_event(row) for row in self._session.exec(query)][::-1]

    def _rows(self) -> Iterator[AuditRow]:
        query = select(AuditRow).order_by(col(AuditRow.seq))
        yield from self._session.exec(query.execution_options(yield_per=1000))
