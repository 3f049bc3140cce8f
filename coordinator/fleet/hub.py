"""Where the application's threads and the members' streams meet.

The hub owns the mailbox and the grants behind one lock. Application threads post and wait; streams,
which live on the server's event loop, are told through :class:`Link` that there is something to do.
Every call is short: no encoding, hashing or sending happens under the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog
from flwr.app import Message

from coordinator.fleet.grants import GrantBook
from coordinator.fleet.mailbox import Entry, Fit, Mailbox
from coordinator.fleet.outgoing import Outgoing, bodies
from shared.clock import Clock, SystemClock
from shared.limits import MAX_UPLOADS

AuditHook = Callable[[str, dict[str, Any]], None]
"""Takes an audit event's kind and body; called from the event loop or an application thread."""

_log = structlog.get_logger("fleet")


class Link(Protocol):
    """A live stream, as the hub sees it; every method may be called from any thread."""

    def wake(self) -> None:
        """Look at the mailbox again: there may be an instruction to send."""

    def granted(self, key: str) -> None:
        """Tell the member that it may upload its reply to ``key``."""

    def withdrawn(self, key: str) -> None:
        """Tell the member that nobody waits for its reply to ``key``."""

    def close(self, code: str, text: str) -> None:
        """Say goodbye and end the stream."""


def log_only(kind: str, body: dict[str, Any]) -> None:
    """Write an event to the log, for a hub that has no audit trail to write to."""
    _log.warning(kind, **body)


class Hub:
    """Thread-safe meeting point of one coordinator process."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        max_uploads: int = MAX_UPLOADS,
        audit: AuditHook = log_only,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.audit = audit
        self._mailbox = Mailbox(self.clock)
        self._grants = GrantBook(max_uploads)
        self._links: dict[int, Link] = {}
        self._owners: dict[str, int] = {}  # key of a requested or held grant -> member
        self._changed = threading.Condition()

    # -- for the application's threads ------------------------------------------------------

    def connected(self) -> frozenset[int]:
        """Return the indices of the members whose stream is up."""
        with self._changed:
            return frozenset(self._links)

    def post(self, messages: Iterable[Message]) -> list[str]:
        """Take instructions in, encoded; return their ids in order."""
        batch = list(messages)
        pairs = list(zip(batch, bodies(batch), strict=True))
        with self._changed:
            posted = [(self._mailbox.post(m, b), int(m.metadata.dst_node_id)) for m, b in pairs]
            for index in {index for _, index in posted} & self._links.keys():
                self._links[index].wake()
        return [key for key, _ in posted]

    def take(self, keys: Sequence[str], timeout: float = 0.0) -> list[Message]:
        """Return replies that are there, each once; wait up to ``timeout`` seconds for the first.

        Of large replies one at a time: its grant is released once it is decoded, so that the
        caller holds one beside those that the grants allow.
        """
        with self._changed:
            self._wait(keys, timeout)
            entries = self._mailbox.take(keys, self._grants.held)
        try:
            return [self._open(entry) for entry in entries]
        finally:
            with self._changed:
                self._release(entry.key for entry in entries)

    def _wait(self, keys: Sequence[str], timeout: float) -> None:
        self._expire()
        deadline = self.clock.monotonic() + timeout
        while not any(self._mailbox.is_answered(key) for key in keys):
            left = deadline - self.clock.monotonic()
            if left <= 0:
                return
            # Wake now and then: a time to live may end while nothing else happens.
            self._changed.wait(min(left, 0.25))
            self._expire()

    def _open(self, entry: Entry) -> Message:
        reply, usable = entry.reply()
        if not usable:
            self.audit("fleet.reply_malformed", {"member": entry.index})
        return reply

    def known(self, keys: Iterable[str]) -> list[str]:
        """Return those of ``keys`` whose reply is still to be taken."""
        with self._changed:
            return self._mailbox.known(keys)

    def withdraw(self, keys: Iterable[str]) -> None:
        """Forget instructions nobody waits for; members that hold them are told."""
        keys = list(keys)
        with self._changed:
            gone = self._mailbox.withdraw(keys)
            self._tell_withdrawn(gone)
            self._release(keys)

    # -- for the streams --------------------------------------------------------------------

    def attach(self, index: int, link: Link) -> None:
        """Make ``link`` the member's stream; an older one is closed."""
        with self._changed:
            older = self._links.pop(index, None)
            if older is not None:
                self._lose(index)
                older.close("replaced", "the member opened a newer stream")
            self._links[index] = link
            self._changed.notify_all()

    def detach(self, index: int, link: Link) -> None:
        """Forget a stream that has ended, unless a newer one has taken its place."""
        with self._changed:
            if self._links.get(index) is link:
                del self._links[index]
                self._lose(index)
                self._changed.notify_all()

    def close_all(self, code: str, text: str) -> None:
        """Say goodbye to every member."""
        with self._changed:
            for link in self._links.values():
                link.close(code, text)

    def open_for(self, index: int) -> list[str]:
        """Return ids of the member's unanswered instructions, oldest first."""
        with self._changed:
            self._expire()
            return self._mailbox.open_for(index)

    def instruction(self, key: str, index: int) -> Outgoing | None:
        """Return the member's instruction if it is still unanswered."""
        with self._changed:
            entry = self._mailbox.open_entry(key, index)
            return entry.wire if entry else None

    def delivered(self, key: str, index: int) -> None:
        """Note that the member has the instruction."""
        with self._changed:
            self._mailbox.mark_delivered(key, index)

    def refuse(self, key: str, index: int, reason: str) -> None:
        """Answer an instruction that the member could not accept."""
        with self._changed:
            self._mailbox.refuse(key, index, reason)
            self._changed.notify_all()

    def fit(self, key: str, index: int) -> Fit:
        """Judge an announced reply; one to another member's instruction is audited, once."""
        with self._changed:
            self._expire()
            fit = self._mailbox.fit(key, index)
            news = fit is Fit.FOREIGN and self._mailbox.note_intruder(key, index)
        if news:
            self.audit("fleet.reply_forged", {"member": index, "message_id": key})
        return fit

    def reply_limit(self, key: str, index: int) -> int:
        """Return the most bytes the member's reply may have; 0 where none is expected."""
        with self._changed:
            entry = self._mailbox.open_entry(key, index)
            return entry.reply_limit if entry else 0

    def request_grant(self, key: str, index: int) -> None:
        """Queue the member's large reply to ``key``; its link hears when it may come."""
        with self._changed:
            self._owners[key] = index
            self._grants.request(key)
            if key in self._grants.held and (link := self._links.get(index)):
                link.granted(key)  # asked again after a damaged upload
            self._advance()

    def has_grant(self, key: str) -> bool:
        """Return whether the reply to ``key`` may be uploaded now."""
        with self._changed:
            return key in self._grants.held

    def answer(self, key: str, index: int, data: bytes | bytearray) -> None:
        """Take in a complete reply whose digest holds; the bytes are the hub's from now on."""
        with self._changed:
            self._mailbox.answer(key, index, data)
            self._changed.notify_all()

    def tick(self) -> None:
        """End what is overdue; called now and then by the server."""
        with self._changed:
            self._expire()

    # -- under the lock ---------------------------------------------------------------------

    def _expire(self) -> None:
        ended = self._mailbox.expire()
        if ended:
            self._tell_withdrawn(ended)
            self._release(key for key, _ in ended)
            self._changed.notify_all()

    def _tell_withdrawn(self, gone: Iterable[tuple[str, int]]) -> None:
        for key, index in gone:
            if link := self._links.get(index):
                link.withdrawn(key)

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._owners.pop(key, None)
            self._grants.release(key)
        self._advance()

    def _lose(self, index: int) -> None:
        """Give back the grants of a stream that has gone, save those of received replies."""
        self._release(
            [
                key
                for key, owner in self._owners.items()
                if owner == index and not self._mailbox.is_answered(key)
            ]
        )

    def _advance(self) -> None:
        for key in self._grants.advance():
            if link := self._links.get(self._owners[key]):
                link.granted(key)
