"""The roster this member has accepted and the peers whose fingerprints it has pinned.

The coordinator issues the certificates and could invent members, so a roster counts only once
a person here has accepted it, and a peer only once its fingerprint has been compared with the
peer itself, over another channel.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from shared.errors import BadInput, ConfigError, StateError, VerificationError
from shared.files import write_atomic
from shared.trust.roster import Roster, RosterEntry

ROSTER_FILE = "roster.bin"
PINS_FILE = "peers.toml"


def fingerprint(public_key: bytes) -> str:
    """Return the fingerprint people compare: SHA-256 of the identity key, 16 groups of 4 hex."""
    text = hashlib.sha256(public_key).hexdigest()
    return " ".join(text[at : at + 4] for at in range(0, 64, 4))


def _normal(text: str) -> str:
    plain = "".join(text.lower().split()).replace(":", "")
    if len(plain) != 64 or any(char not in "0123456789abcdef" for char in plain):
        raise BadInput("a fingerprint is 64 hexadecimal digits")
    return plain


def _refuse_moved(current: Roster, later: Roster) -> None:
    names = {item.member_id: item.index for item in current.entries}
    keys = {item.public_key: item.index for item in current.entries}
    for item in later.entries:
        known = {names.get(item.member_id, item.index), keys.get(item.public_key, item.index)}
        if known != {item.index}:
            raise VerificationError(
                f"the roster has a member under index {item.index} that had another one before",
                hint="an index is for good; ask the operator why it changed",
            )


Note = Callable[[], None]
"""Writes an audit event. It is called when everything has been checked and before anything is
changed: nothing takes effect that is not in the log (docs/adr/0014)."""


def _no_note() -> None:
    """Write nothing: for callers that keep no audit log."""


class Peers:
    """Accepted roster and pins in one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir

    def roster(self) -> Roster | None:
        """Return the accepted roster, or None before the first `peers accept`."""
        path = self._dir / ROSTER_FILE
        return Roster.decode(path.read_bytes()) if path.exists() else None

    def accept(
        self,
        roster: Roster,
        *,
        own_index: int,
        own_key: bytes,
        dry_run: bool = False,
        note: Note = _no_note,
    ) -> bool:
        """Accept a roster, or only check it; return False when it was accepted already.

        Args:
            roster: as the coordinator gave it.
            own_index: this member's.
            own_key: its identity key, raw.
            dry_run: only check.
            note: see :data:`Note`.

        Raises:
            VerificationError: it lists this member under another key or not at all, or it is
                older than the one accepted, gives a known name or key another index, or it
                changes the key of a pinned peer.
        """
        entry = next((item for item in roster.entries if item.index == own_index), None)
        if entry is None or entry.public_key != own_key:
            raise VerificationError("the roster does not list this member under its own key")
        current = self.roster()
        if current is not None:
            if current.hash() == roster.hash():
                return False
            if roster.alliance_id != current.alliance_id or roster.epoch <= current.epoch:
                raise VerificationError("the roster is not a later one of the same alliance")
            _refuse_moved(current, roster)
        self._refuse_changed_pins(roster)
        if not dry_run:
            note()
            write_atomic(self._dir / ROSTER_FILE, roster.encode(), mode=0o600)
        return True

    def _refuse_changed_pins(self, roster: Roster) -> None:
        pins = self.pins()
        for item in roster.entries:
            pinned = pins.get(item.member_id)
            if pinned and pinned != hashlib.sha256(item.public_key).hexdigest():
                raise VerificationError(
                    f"the roster gives {item.member_id} another key than the one pinned here",
                    hint="ask that member; if its key did change, unpin it first",
                )

    def pins(self) -> dict[str, str]:
        """Return pinned fingerprints, 64 hex digits, by member id."""
        path = self._dir / PINS_FILE
        if not path.exists():
            return {}
        try:
            pins = tomllib.loads(path.read_text("utf-8")).get("pinned", {})
            return {str(name): _normal(str(value)) for name, value in pins.items()}
        except (tomllib.TOMLDecodeError, BadInput) as error:
            raise ConfigError(f"{PINS_FILE} is damaged: {error}") from error

    def pin(
        self, member_id: str, claimed: str, *, dry_run: bool = False, note: Note = _no_note
    ) -> bool:
        """Pin a peer's fingerprint as told by the peer itself, or only check it.

        Returns False if it was pinned already.

        Args:
            member_id: the peer's.
            claimed: its fingerprint.
            dry_run: only check.
            note: see :data:`Note`.

        Raises:
            StateError: no roster has been accepted.
            VerificationError: the roster's key for that member has another fingerprint.
        """
        _, entry = self.known(member_id)
        wanted = _normal(claimed)
        if hashlib.sha256(entry.public_key).hexdigest() != wanted:
            raise VerificationError(
                f"the roster's key of {member_id} does not have this fingerprint",
                hint="do not train with this alliance until the two of you know why",
            )
        pins = self.pins()
        if pins.get(member_id) == wanted:
            return False
        if not dry_run:
            note()
            self._write({**pins, member_id: wanted})
        return True

    def unpin(self, member_id: str, *, dry_run: bool = False, note: Note = _no_note) -> bool:
        """Forget a pin; return False if there was none. About ``note`` see :data:`Note`."""
        pins = self.pins()
        if pins.pop(member_id, None) is None:
            return False
        if not dry_run:
            note()
            self._write(pins)
        return True

    def pinned_indices(self) -> frozenset[int]:
        """Return the indices of accepted members whose key matches a pin."""
        roster = self.roster()
        return self.pinned_among(roster.entries if roster else ())

    def pinned_among(self, members: Iterable[RosterEntry]) -> frozenset[int]:
        """Return the indices of those of ``members`` that are pinned here with just that key.

        A run counts its own members so: what their indices mean is for its manifest to say, and a
        roster accepted since may have another member under one of them.
        """
        pins = self.pins()
        return frozenset(
            entry.index
            for entry in members
            if pins.get(entry.member_id) == hashlib.sha256(entry.public_key).hexdigest()
        )

    def known(self, member_id: str) -> tuple[Roster, RosterEntry]:
        """Return the accepted roster and its entry of a member.

        Raises:
            StateError: no roster has been accepted.
            NotFound: the roster has no member of that name.
        """
        roster = self.roster()
        if roster is None:
            raise StateError(
                "no roster has been accepted yet", hint="run `touchstone-participant peers accept`"
            )
        return roster, roster.by_name(member_id)

    def _write(self, pins: dict[str, str]) -> None:
        lines = ["[pinned]", *(f'"{name}" = "{value}"' for name, value in sorted(pins.items()))]
        write_atomic(self._dir / PINS_FILE, ("\n".join(lines) + "\n").encode(), mode=0o600)
