"""Drawing the groups of a roster, once an epoch, before its first run in groups has a manifest.

Every member commits to a nonce, is shown what all have committed to, and reveals. If one of them
does not reveal, nothing is drawn: the next drawing goes without it. Leaving it out of *this* one
would let a coordinator try as many outcomes as it has members to leave out; of whole drawings,
members take part in at most eight (docs: decision 0011).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.rounds.book import RunBook
from coordinator.rounds.courier import NO_REPLY, Courier
from coordinator.rounds.errors import RunFailed
from coordinator.rounds.plan import RunSettings, planned_groups
from shared.encoding import Reader, Writer
from shared.errors import BadInput, TouchstoneError
from shared.files import write_atomic
from shared.fleet.exchange import COMMIT_TO_DRAW, OK, REFUSED, REVEAL_FOR_DRAW, Answer, Instruction
from shared.limits import MAX_DRAWINGS, MAX_MEMBERS
from shared.trust.grouping import (
    CommitCall,
    CommitList,
    Drawing,
    call_body,
    enough_drawn,
    open_answer,
    opens,
    sign_call,
)
from shared.trust.roster import Roster

DOMAIN = "touchstone/drawing-journal/v1"
DRAWINGS = "drawings"
_GREETING_POLL_S = 0.25
_LIST_BYTES = 256 * 1024


@dataclass(frozen=True)
class Progress:
    """How far the drawings of one roster have come; on disk before each step.

    Attributes:
        number: the latest drawing begun, 0 for none.
        call: its signed list of commitments, once it is fixed, else empty.
        nonces: (index, 32 bytes) of all of the list, once everybody has revealed, else empty.
    """

    number: int = 0
    call: bytes = b""
    nonces: tuple[tuple[int, bytes], ...] = ()

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return Writer(DOMAIN).u32(self.number).blob(self.call).hashes(self.nonces).done()

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        value = cls(reader.u32(), reader.blob(_LIST_BYTES), reader.hashes(MAX_MEMBERS))
        reader.end()
        return value


class GroupDraw:
    """Draws the groups of one roster.

    Args:
        folder: the coordinator's state folder.
        roster: of the current epoch.
        settings: the run's.
        key: the coordinator's signing key.
        courier: the way to the members.
        book: where refusals and what was drawn are noted.
    """

    def __init__(
        self,
        folder: Path,
        roster: Roster,
        settings: RunSettings,
        *,
        key: Ed25519PrivateKey,
        courier: Courier,
        book: RunBook,
    ) -> None:
        self._path = folder / DRAWINGS / f"{roster.hash().hex()}.bin"
        self._roster = roster
        self._settings = settings
        self._key = key
        self._courier = courier
        self._book = book
        self._keys = {entry.index: entry.public_key for entry in roster.entries}

    def result(self) -> tuple[tuple[int, ...], Drawing]:
        """Return the members drawn, ascending, and their drawing; draw if it was not done yet.

        Raises:
            RunFailed: too few members answered, or too many drawings came to nothing.
        """
        if not self._courier.sees_absence:
            raise RunFailed("groups", "a run in groups needs the alliance's own grid")
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        known = self._load()
        silent: set[int] = set()
        while not known.nonces:
            if not known.call:
                known = self._commit(known, silent)
            known = self._reveal(known, silent)
        count = CommitList.decode(call_body(known.call)).count
        self._check(len(known.nonces), count)
        nonces = tuple(nonce for _, nonce in known.nonces)
        return tuple(index for index, _ in known.nonces), Drawing(known.number, count, nonces)

    def _check(self, members: int, count: int) -> None:
        """Refuse a run that wants other groups than this epoch has."""
        wanted = self._plan(members)
        if self._settings.groups is not None and wanted != count:
            raise RunFailed(
                "groups",
                f"the {members} members of this roster were drawn into {count} groups",
                hint="groups are fixed until somebody joins or leaves",
            )

    def _plan(self, members: int) -> int:
        try:
            count = planned_groups(self._settings, members)
        except BadInput as error:
            raise RunFailed("groups", error.message, hint=error.hint) from error
        if count < 2:
            raise RunFailed("groups", f"only {members} members take part: too few for groups")
        return count

    # -- the two steps ----------------------------------------------------------------------

    def _commit(self, known: Progress, silent: set[int]) -> Progress:
        """Begin another drawing and fix its list."""
        number = known.number + 1
        if number > MAX_DRAWINGS:
            raise RunFailed(
                "groups",
                f"{MAX_DRAWINGS} drawings of this roster came to nothing; members take no more",
                hint="revoke members that do not reveal: a new roster may be drawn anew",
            )
        self._save(Progress(number))
        call = sign_call(CommitCall(self._roster.hash(), number).encode(), self._key)
        asked = self._keys.keys() - silent
        self._greet(asked)
        found = dict(self._ask(COMMIT_TO_DRAW, call, asked, away_s=self._settings.away_s))
        listed = tuple(sorted(found.items()))
        if not enough_drawn(len(listed), len(self._keys)):
            raise RunFailed(
                "groups",
                f"{len(listed)} of {len(self._keys)} members answered; three quarters are needed",
                hint="revoke members that are gone, or start the run when more are connected",
            )
        count = self._plan(len(listed))
        body = CommitList(self._roster.hash(), number, count, listed).encode()
        return self._save(Progress(number, sign_call(body, self._key)))

    def _reveal(self, known: Progress, silent: set[int]) -> Progress:
        """Ask everybody on the list to reveal; without all of them, give the drawing up."""
        listed = CommitList.decode(call_body(known.call))
        members = {index for index, _ in listed.commitments}
        nonces = opens(listed, self._ask(REVEAL_FOR_DRAW, known.call, members))
        if missing := members - nonces.keys():
            silent |= missing
            self._book.event("groups.not_revealed", drawing=known.number, members=sorted(missing))
            return self._save(Progress(known.number))
        self._book.event(
            "groups.drawn", drawing=known.number, groups=listed.count, members=len(members)
        )
        return self._save(replace(known, nonces=tuple(sorted(nonces.items()))))

    def _ask(
        self, action: str, call: bytes, members: Iterable[int], away_s: float | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield (index, 32 bytes) of each answer that is its member's own."""
        instruction = Instruction(payload=call)
        asked = dict.fromkeys(sorted(members), instruction)
        for reply in self._courier.ask(action, asked, timeout=self._settings.draw_s, away_s=away_s):
            value = self._value(reply.node_id, call, reply.answer)
            if value:
                yield reply.node_id, value

    def _value(self, index: int, call: bytes, answer: Answer) -> bytes:
        if answer.status == REFUSED:
            self._book.refused(index, answer.code)
        elif answer.status != OK:
            if answer.code != NO_REPLY:
                self._book.event("groups.member_failed", member=index, code=answer.code)
        else:
            try:
                return open_answer(answer.payload, call, index, self._keys[index])
            except TouchstoneError as error:
                self._book.event("groups.member_failed", member=index, code=error.code)
        return b""

    def _greet(self, members: Iterable[int]) -> None:
        """Give the members a moment to connect: who is not drawn is out until the next epoch."""
        waited, everybody = 0.0, frozenset(members)
        while waited < self._settings.setup_s and not everybody <= self._courier.reachable():
            self._courier.pause(_GREETING_POLL_S)
            waited += _GREETING_POLL_S

    # -- what is kept -----------------------------------------------------------------------

    def _load(self) -> Progress:
        return Progress.decode(self._path.read_bytes()) if self._path.exists() else Progress()

    def _save(self, progress: Progress) -> Progress:
        write_atomic(self._path, progress.encode(), mode=0o600)
        return progress
