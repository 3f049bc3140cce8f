"""Certificates issued to members and not used yet."""

from __future__ import annotations

from dataclasses import asdict

from sqlmodel import Session, col, delete, select

from coordinator.db.records import Renewal
from coordinator.db.tables import MemberRow, RenewalRow
from shared.errors import NotFound
from shared.limits import MAX_OPEN_RENEWALS


class RenewalRepo:
    """Open renewals of every member, newest last."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, renewal: Renewal) -> None:
        """Write new certificates; the oldest unused ones of the member beyond the limit go."""
        self._session.add(RenewalRow(**asdict(renewal)))
        self._session.flush()
        rows = self._session.exec(
            select(RenewalRow)
            .where(RenewalRow.index == renewal.index)
            .order_by(col(RenewalRow.id).desc())
            .offset(MAX_OPEN_RENEWALS)
        )
        for row in rows:
            self._session.delete(row)
        self._session.flush()

    def has(self, index: int, tls_fingerprint: str) -> bool:
        """Tell whether this member was issued this certificate and has not used it."""
        return self._row(index, tls_fingerprint) is not None

    def switch(self, index: int, tls_fingerprint: str) -> None:
        """Make issued certificates the member's own: the ones before and the others end.

        Raises:
            NotFound: this member was not issued this certificate, or it uses it already.
        """
        row, member = self._row(index, tls_fingerprint), self._session.get(MemberRow, index)
        if row is None or member is None:
            raise NotFound("no such certificate is waiting to be used")
        member.tls_fingerprint = row.tls_fingerprint
        member.identity_fingerprint = row.identity_fingerprint
        member.tls_certificate = row.tls_certificate
        member.identity_certificate = row.identity_certificate
        self._session.exec(delete(RenewalRow).where(col(RenewalRow.index) == index))
        self._session.flush()

    def _row(self, index: int, tls_fingerprint: str) -> RenewalRow | None:
        return self._session.exec(
            select(RenewalRow).where(
                RenewalRow.index == index, RenewalRow.tls_fingerprint == tls_fingerprint
            )
        ).first()
