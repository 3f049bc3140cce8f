"""Runs this node was asked to join, and what a person here has said about each.

Kept as small files in ``<state>/approvals``, so that a person can decide while the node runs, and
while it does not: both sides read and replace whole files, and neither holds a lock. What a person
says is bound to the hash of one exact manifest, and a run id keeps the first manifest it came with:
a coordinator cannot have one manifest looked at and another one approved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from participant.node.consent import Said
from participant.node.reasons import refusal
from shared.clock import from_unix, to_unix
from shared.encoding import Reader, Writer
from shared.files import write_atomic
from shared.limits import MAX_ASKED_RUNS, MAX_REASON
from shared.trust.audit import verify_past_manifest
from shared.trust.manifest import VerifiedManifest

DOMAIN = "touchstone/approval/v1"
FOLDER = "approvals"


@dataclass(frozen=True)
class Approval:
    """What a person said.

    Attributes:
        run_id: 16 bytes.
        manifest_hash: of the one manifest it is about, 32 bytes.
        said: ``approved`` or ``refused``.
        reason: in the person's words; stays here.
        at: when.
    """

    run_id: bytes
    manifest_hash: bytes
    said: Said
    reason: str
    at: datetime

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).fixed(self.run_id, 16).fixed(self.manifest_hash, 32)
        return writer.text(self.said).text(self.reason).u64(to_unix(self.at)).done()

    @classmethod
    def decode(cls, data: bytes) -> Approval:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        run_id, manifest_hash, word = reader.fixed(16), reader.fixed(32), reader.text(16)
        # An unknown word is no approval.
        said: Said = "approved" if word == "approved" else "refused"
        approval = cls(
            run_id, manifest_hash, said, reader.text(4 * MAX_REASON), from_unix(reader.u64())
        )
        reader.end()
        return approval


class Approvals:
    """The folder of one node.

    Args:
        state_dir: the member's state folder.
        coordinator_key: raw Ed25519 key that must have signed every manifest.
    """

    def __init__(self, state_dir: Path, coordinator_key: bytes) -> None:
        self._dir = state_dir / FOLDER
        self._key = coordinator_key

    def keep(self, verified: VerifiedManifest, signed: bytes, now: datetime) -> None:
        """Remember what the node was asked, before it answers.

        Raises:
            PolicyRefused: the run id is known with another manifest, or too many runs are open.
            StorageError: the disk refuses.
        """
        run_id = verified.manifest.run_id
        kept = self.manifest(run_id)
        if kept is None:
            self._dir.mkdir(mode=0o700, exist_ok=True)
            self._make_room(now)
            write_atomic(self._asked(run_id), signed, mode=0o600)
        elif kept.hash != verified.hash:
            raise refusal("manifest_changed")

    def manifest(self, run_id: bytes) -> VerifiedManifest | None:
        """Return the manifest a run came with, expired or not, or None."""
        path = self._asked(run_id)
        return verify_past_manifest(path.read_bytes(), self._key) if path.exists() else None

    def runs(self) -> list[VerifiedManifest]:
        """Return what the node was asked, oldest manifest first."""
        found = [self.manifest(bytes.fromhex(path.stem)) for path in self._dir.glob("*.asked")]
        return sorted((item for item in found if item), key=lambda item: item.manifest.created_at)

    def decision(self, verified: VerifiedManifest) -> Approval | None:
        """Return what a person said about exactly this manifest, or None."""
        path = self._said(verified.manifest.run_id)
        if not path.exists():
            return None
        approval = Approval.decode(path.read_bytes())
        return approval if approval.manifest_hash == verified.hash else None

    def said(self, verified: VerifiedManifest) -> Said:
        """Return the bare word of :meth:`decision`, or an empty one."""
        found = self.decision(verified)
        return found.said if found else ""

    def decide(self, approval: Approval) -> None:
        """Write down what a person said, over what was said before."""
        write_atomic(self._said(approval.run_id), approval.encode(), mode=0o600)

    def _make_room(self, now: datetime) -> None:
        """Forget the oldest expired run when the folder is full."""
        known = self.runs()
        if len(known) < MAX_ASKED_RUNS:
            return
        expired = [item.manifest for item in known if item.manifest.expires_at <= now]
        if not expired:
            raise refusal("too_many_runs")
        self._said(expired[0].run_id).unlink(missing_ok=True)
        self._asked(expired[0].run_id).unlink(missing_ok=True)

    def _asked(self, run_id: bytes) -> Path:
        return self._dir / f"{run_id.hex()}.asked"

    def _said(self, run_id: bytes) -> Path:
        return self._dir / f"{run_id.hex()}.said"
