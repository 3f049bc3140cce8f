"""Everything one transaction may read and write."""

from __future__ import annotations

from functools import cached_property

from sqlmodel import Session

from coordinator.db.audit import AuditLog
from coordinator.db.members import AllianceRepo, InvitationRepo, MemberRepo
from coordinator.db.renewals import RenewalRepo
from coordinator.db.runs import ReleaseRepo, RoundRepo, RunRepo
from shared.clock import Clock


class Unit:
    """The repositories, bound to one open transaction; of no use after it."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self.clock = clock

    @cached_property
    def alliance(self) -> AllianceRepo:
        """The alliance itself."""
        return AllianceRepo(self._session)

    @cached_property
    def members(self) -> MemberRepo:
        """Members."""
        return MemberRepo(self._session)

    @cached_property
    def renewals(self) -> RenewalRepo:
        """Certificates issued to members and not used yet."""
        return RenewalRepo(self._session)

    @cached_property
    def invitations(self) -> InvitationRepo:
        """One-time tokens."""
        return InvitationRepo(self._session)

    @cached_property
    def runs(self) -> RunRepo:
        """Training runs."""
        return RunRepo(self._session)

    @cached_property
    def rounds(self) -> RoundRepo:
        """Attempts at rounds, and refusals."""
        return RoundRepo(self._session)

    @cached_property
    def releases(self) -> ReleaseRepo:
        """Released bundles."""
        return ReleaseRepo(self._session)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit log."""
        return AuditLog(self._session, self.clock)
