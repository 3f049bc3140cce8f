"""This member's part in drawing the groups of a roster, and what it holds a manifest against.

One small file for each roster that a person here has accepted. It is on disk before an answer
leaves: the nonce is a secret until it is revealed, and afterwards the list it was revealed for
must never become another one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from participant.node.reasons import refusal
from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.files import write_atomic
from shared.limits import MAX_DRAWINGS, MAX_GROUP, MIN_GROUP
from shared.trust.grouping import (
    HASH,
    NONCE_BYTES,
    CommitCall,
    CommitList,
    DrawingRefused,
    commitment,
    enough_drawn,
    open_call,
    sign_answer,
)
from shared.trust.manifest import RunManifest
from shared.trust.roster import Roster

DOMAIN = "touchstone/drawn/v1"


@dataclass(frozen=True)
class Drawn:
    """What this member has said and seen of one roster's drawings.

    Attributes:
        number: the latest drawing it committed to, 0 for none.
        nonce: 32 bytes, secret until revealed.
        list_digest: of the commitments it revealed for; zeros before.
        settled: whether it has agreed to a run with these groups; they are then fixed.
    """

    number: int = 0
    nonce: bytes = bytes(NONCE_BYTES)
    list_digest: bytes = bytes(HASH)
    settled: bool = False

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).u32(self.number).fixed(self.nonce, NONCE_BYTES)
        return writer.fixed(self.list_digest, HASH).u8(int(self.settled)).done()

    @classmethod
    def decode(cls, data: bytes) -> Drawn:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        number, nonce, seen = reader.u32(), reader.fixed(NONCE_BYTES), reader.fixed(HASH)
        settled = reader.u8()
        reader.end()
        if settled > 1:
            raise MalformedMessage("a flag is neither 0 nor 1")
        return cls(number, nonce, seen, bool(settled))

    @property
    def revealed(self) -> bool:
        """Whether the nonce has left this machine."""
        return self.list_digest != bytes(HASH)


NOT_DRAWN = Drawn()
"""Of a roster that was never drawn."""


def drawn_of(folder: Path, roster_hash: bytes) -> Drawn:
    """Return what a member has said and seen of a roster's drawings.

    Args:
        folder: the node's folder of one-time secrets.
        roster_hash: 32 bytes.
    """
    path = _path(folder, roster_hash)
    return Drawn.decode(path.read_bytes()) if path.exists() else NOT_DRAWN


def _path(folder: Path, roster_hash: bytes) -> Path:
    return folder / f"drawn-{roster_hash.hex()}.bin"


def check_groups(manifest: RunManifest, known: Drawn, floor: int) -> None:
    """Check that a manifest's groups are those that were drawn, and large enough.

    Args:
        manifest: the run's; one without groups passes.
        known: what this member has seen of the drawing of the manifest's roster.
        floor: fewest members of a group.

    Raises:
        PolicyRefused: they are not.
    """
    if not manifest.grouped:
        return
    drawing, indices = manifest.drawing, [member.index for member in manifest.members]
    _check_sizes(len(indices), drawing.count, floor)
    digest = drawing.list_digest(manifest.roster_hash, indices)
    if not known.revealed or (drawing.number, digest) != (known.number, known.list_digest):
        raise refusal("groups_not_drawn")


def _check_sizes(members: int, count: int, floor: int) -> None:
    if count < 2 or members // count < floor or -(-members // count) > MAX_GROUP:
        raise refusal("group_size")


class Drawings:
    """Answers the calls of a drawing.

    Args:
        folder: where the files are, mode 0700.
        index: this member's.
        key: its identity key.
        coordinator_key: raw Ed25519 key of the coordinator.
        unsafe_min_group: smallest group to take part in; only tests and simulations lower it.
    """

    def __init__(
        self,
        folder: Path,
        index: int,
        key: Ed25519PrivateKey,
        coordinator_key: bytes,
        *,
        unsafe_min_group: int = MIN_GROUP,
    ) -> None:
        self._folder = folder
        self._index = index
        self._key = key
        self._coordinator_key = coordinator_key
        self._floor = unsafe_min_group

    def commit(self, call: bytes, roster: Roster | None) -> bytes:
        """Answer the first step: commit to a nonce of our own.

        Raises:
            PolicyRefused: another roster than the accepted one.
            DrawingRefused: an earlier drawing, one too many, or groups are fixed already.
        """
        asked = CommitCall.decode(open_call(call, self._coordinator_key))
        known = self._of(asked.roster_hash, roster)
        if asked.number != known.number:
            known = self._begin(asked, known)
        value = commitment(asked.roster_hash, known.number, self._index, known.nonce)
        return sign_answer(call, self._index, value, self._key)

    def _begin(self, asked: CommitCall, known: Drawn) -> Drawn:
        if known.settled:
            raise DrawingRefused("the groups of this roster are fixed: a run with them was agreed")
        if not known.number < asked.number <= MAX_DRAWINGS:
            raise DrawingRefused(
                f"drawing {asked.number} does not follow drawing {known.number} of at most "
                f"{MAX_DRAWINGS}"
            )
        begun = Drawn(asked.number, secrets.token_bytes(NONCE_BYTES))
        self._save(asked.roster_hash, begun)
        return begun

    def reveal(self, call: bytes, roster: Roster | None) -> bytes:
        """Answer the second step: write down what everybody committed to, then reveal our nonce.

        Raises:
            PolicyRefused: another roster, too few of its members, or groups that are too small.
            DrawingRefused: another list than the one we revealed for, or not our commitment.
        """
        asked = CommitList.decode(open_call(call, self._coordinator_key))
        known = self._of(asked.roster_hash, roster)
        own = commitment(asked.roster_hash, known.number, self._index, known.nonce)
        if asked.number != known.number or dict(asked.commitments).get(self._index) != own:
            raise DrawingRefused("the list does not hold what this member has committed to")
        members = {entry.index for entry in roster.entries} if roster else set()
        if not members.issuperset(index for index, _ in asked.commitments):
            raise DrawingRefused("the list has a member the roster does not know")
        if not enough_drawn(len(asked.commitments), len(members)):
            raise refusal("too_few_drawn")
        _check_sizes(len(asked.commitments), asked.count, self._floor)
        if known.revealed and known.list_digest != asked.digest():
            raise DrawingRefused("this member has revealed its nonce for another list")
        self._save(asked.roster_hash, replace(known, list_digest=asked.digest()))
        return sign_answer(call, self._index, known.nonce, self._key)

    def check(self, manifest: RunManifest) -> None:
        """Check that a manifest's groups are those that were drawn; they are fixed from now on.

        Raises:
            PolicyRefused: they are not, or are too small.
        """
        known = self._load(manifest.roster_hash)
        check_groups(manifest, known, self._floor)
        if manifest.grouped and not known.settled:
            self._save(manifest.roster_hash, replace(known, settled=True))

    def _of(self, roster_hash: bytes, roster: Roster | None) -> Drawn:
        if roster is None or roster.hash() != roster_hash:
            raise refusal("roster_not_accepted")
        return self._load(roster_hash)

    def _load(self, roster_hash: bytes) -> Drawn:
        return drawn_of(self._folder, roster_hash)

    def _save(self, roster_hash: bytes, drawn: Drawn) -> None:
        write_atomic(_path(self._folder, roster_hash), drawn.encode(), mode=0o600)
