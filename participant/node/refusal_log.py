"""Audit events of refusals and failures that belong to no run this node was properly asked to join.

Whoever can sign as the coordinator can send as many as it likes, so each is written down once a
day, and of all together no more than a cap: a log that others can fill is no log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from participant.node.reasons import told_to_coordinator
from participant.store.audit import AuditLog
from shared.clock import Clock
from shared.errors import PolicyRefused, VerificationError
from shared.limits import MAX_NOTED_REFUSALS

_WHY = 200
"""Characters of a public text that are kept: it may quote a field of the message."""


class RefusalLog:
    """One node's.

    Args:
        audit: the node's audit log.
        clock: tells when another day has begun.
    """

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._day: date | None = None
        self._noted: set[tuple[str, ...]] = set()

    @contextmanager
    def of_manifest(self, signed: bytes) -> Iterator[None]:
        """Note what makes a manifest one that this node does not even hold its policy against."""
        try:
            yield
        except VerificationError as error:
            body = {
                "sha256": hashlib.sha256(signed).hexdigest(),
                "code": error.code,
                "why": error.message[:_WHY],
            }
            if self._is_new("manifest", *body.values()):
                self._audit.append("manifest.refused", body)
            raise

    @contextmanager
    def of_drawing(self, call: bytes) -> Iterator[None]:
        """Note why this node takes no part in a drawing of groups."""
        try:
            yield
        except (PolicyRefused, VerificationError) as error:
            refused = isinstance(error, PolicyRefused)
            reason = error.reason if isinstance(error, PolicyRefused) else error.code
            body = {
                "sha256": hashlib.sha256(call).hexdigest(),
                "reason_code": reason,
                "told": told_to_coordinator(reason) if refused else reason,
            }
            if self._is_new("drawing", *body.values()):
                self._audit.append("drawing.refused", body)
            raise

    def failure(self, error: Exception) -> None:
        """Note that a step ended with an error nobody foresaw; its text may tell of records."""
        name = type(error).__name__
        if self._is_new("failure", name):
            self._audit.append("step.failed", {"error": name})

    def _is_new(self, *what: str) -> bool:
        today = self._clock.now().date()
        if today != self._day:
            self._day, self._noted = today, set()
        if what in self._noted or len(self._noted) >= MAX_NOTED_REFUSALS:
            return False
        self._noted.add(what)
        return True
