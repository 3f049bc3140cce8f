"""The alliance, its members and their invitations."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, func, update
from sqlmodel import Session, col, select

from coordinator.db.records import Alliance, Invitation, Member, MemberStatus
from coordinator.db.tables import AllianceRow, InvitationRow, MemberRow
from shared.errors import NotFound, StateError
from shared.limits import MAX_MEMBERS


class AllianceRepo:
    """The one row about the alliance itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def found(self, alliance: Alliance) -> None:
        """Write the alliance; raises :class:`StateError` if there is one already."""
        if self._session.exec(select(AllianceRow)).first() is not None:
            raise StateError("this database already belongs to an alliance")
        self._session.add(AllianceRow(**asdict(alliance)))
        self._session.flush()

    def find(self) -> Alliance | None:
        """Return the alliance, or nothing before it is founded."""
        row = self._session.exec(select(AllianceRow)).first()
        return None if row is None else Alliance(**row.model_dump())

    def get(self) -> Alliance:
        """Return the alliance; raises :class:`NotFound` before it is founded."""
        alliance = self.find()
        if alliance is None:
            raise NotFound(
                "no alliance has been founded here", hint="run touchstone-coordinator init"
            )
        return alliance

    def next_epoch(self) -> int:
        """Raise the roster's epoch by one and return it."""
        row = self._session.exec(select(AllianceRow)).one()
        row.roster_epoch += 1
        self._session.flush()
        return row.roster_epoch


def _member(row: MemberRow) -> Member:
    return Member(**{**row.model_dump(), "status": MemberStatus(row.status)})


class MemberRepo:
    """Members, in the order in which they joined."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, member: Member) -> None:
        """Write a new member; raises :class:`StateError` if its name or key is taken."""
        taken = self._session.exec(
            select(MemberRow).where(
                (col(MemberRow.member_id) == member.member_id)
                | (col(MemberRow.public_key) == member.public_key)
                | (col(MemberRow.tls_fingerprint) == member.tls_fingerprint)
            )
        ).first()
        if taken is not None:
            raise StateError(f"the name or a key of {member.member_id!r} is already a member's")
        self._session.add(MemberRow(**{**asdict(member), "status": member.status.value}))
        self._session.flush()

    def next_index(self) -> int:
        """Return the smallest index above every one ever given.

        Raises:
            StateError: the alliance is full.
        """
        highest = self._session.exec(select(func.max(MemberRow.index))).one() or 0
        if highest >= MAX_MEMBERS:
            raise StateError(f"an alliance has at most {MAX_MEMBERS} members")
        return int(highest) + 1

    def find(self, member_id: str) -> Member | None:
        """Return the member of that name, revoked or not, or nothing."""
        query = select(MemberRow).where(MemberRow.member_id == member_id)
        row = self._session.exec(query).first()
        return None if row is None else _member(row)

    def get(self, member_id: str) -> Member:
        """Return the member of that name; raises :class:`NotFound`."""
        member = self.find(member_id)
        if member is None:
            raise NotFound(
                f"there is no member {member_id!r}",
                hint="touchstone-coordinator member list shows them",
            )
        return member

    def by_index(self, index: int) -> Member | None:
        """Return the member of that index, revoked or not, or nothing."""
        row = self._session.get(MemberRow, index)
        return None if row is None else _member(row)

    def all(self) -> list[Member]:
        """Return everybody who ever joined, by index."""
        rows = self._session.exec(select(MemberRow).order_by(col(MemberRow.index)))
        return [_member(row) for row in rows]

    def active(self) -> list[Member]:
        """Return those who may connect, by index."""
        return [member for member in self.all() if member.status is MemberStatus.ACTIVE]

    def revoke(self, member_id: str, at: datetime) -> None:
        """Shut a member out for good; raises :class:`NotFound`."""
        row = self._session.get(MemberRow, self.get(member_id).index)
        assert row is not None  # noqa: S101 - get() has just found it in this transaction
        row.status, row.revoked_at = MemberStatus.REVOKED.value, at
        self._session.flush()

    def seen(self, index: int, at: datetime) -> None:
        """Note that a member is connected; unknown indices are ignored."""
        row = self._session.get(MemberRow, index)
        if row is not None:
            row.last_seen_at = at
            self._session.flush()


class InvitationRepo:
    """One-time tokens, by their hash."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, invitation: Invitation) -> None:
        """Write a new invitation."""
        self._session.add(InvitationRow(**asdict(invitation)))
        self._session.flush()

    def find(self, token_hash: str) -> Invitation | None:
        """Return the invitation with that token, or nothing."""
        query = select(InvitationRow).where(InvitationRow.token_hash == token_hash)
        row = self._session.exec(query).first()
        return None if row is None else Invitation(**row.model_dump(exclude={"id"}))

    def open(self, at: datetime) -> list[Invitation]:
        """Return those that could still be used at ``at``, oldest first."""
        query = (
            select(InvitationRow)
            .where(
                col(InvitationRow.used_at).is_(None),
                col(InvitationRow.replaced_at).is_(None),
                col(InvitationRow.expires_at) > at,
            )
            .order_by(col(InvitationRow.id))
        )
        return [Invitation(**row.model_dump(exclude={"id"})) for row in self._session.exec(query)]

    def replace(self, member_id: str, at: datetime) -> int:
        """Void every unused invitation of that name; return how many there were."""
        statement = (
            update(InvitationRow)
            .where(
                col(InvitationRow.member_id) == member_id,
                col(InvitationRow.used_at).is_(None),
                col(InvitationRow.replaced_at).is_(None),
            )
            .values(replaced_at=at)
        )
        return self._changed(statement)

    def consume(self, token_hash: str, at: datetime) -> bool:
        """Use an invitation up; only one caller ever gets ``True`` for one token."""
        statement = (
            update(InvitationRow)
            .where(
                col(InvitationRow.token_hash) == token_hash,
                col(InvitationRow.used_at).is_(None),
                col(InvitationRow.replaced_at).is_(None),
                col(InvitationRow.expires_at) > at,
            )
            .values(used_at=at)
        )
        return self._changed(statement) == 1

    def _changed(self, statement: Any) -> int:
        result = cast("CursorResult[Any]", self._session.exec(statement))
        return int(result.rowcount)
