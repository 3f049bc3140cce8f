"""What this member was told in the rounds it answered, to hold against the published transcript.

One small file a run. Nothing in it is secret: the coordinator knows all of it.
"""

from __future__ import annotations

from pathlib import Path

from shared.encoding import Reader, Writer
from shared.files import write_atomic
from shared.secagg import AnsweredRound
from shared.trust.transcript import Witness

DOMAIN = "touchstone/witnesses/v1"
_MAX_ROUNDS = 10_000
_MAX_BITMAP = 512


class WitnessFile:
    """The witnesses of one run, the newest of each round.

    Args:
        folder: where the files are.
        run_id: 16 bytes.
    """

    def __init__(self, folder: Path, run_id: bytes) -> None:
        self._path = folder / f"witness-{run_id.hex()}.bin"
        self._kept = {witness.round: witness for witness in self.read()}

    def read(self) -> list[Witness]:
        """Return what is on disk, by round."""
        if not self._path.exists():
            return []
        reader = Reader(self._path.read_bytes(), DOMAIN)
        found = [
            Witness(
                index=reader.u32(),
                round=reader.u32(),
                slot=reader.u32(),
                t2=reader.fixed(32),
                bitmap=reader.blob(_MAX_BITMAP),
                vector_sha256=reader.fixed(32),
            )
            for _ in range(reader.u32(_MAX_ROUNDS))
        ]
        reader.end()
        return found

    def keep(self, index: int, answered: AnsweredRound) -> None:
        """Keep what this member was told; the same again changes nothing."""
        witness = Witness(
            index,
            answered.round,
            answered.slot,
            answered.t2,
            answered.bitmap,
            answered.vector_sha256,
        )
        if self._kept.get(witness.round) == witness:
            return
        self._kept[witness.round] = witness
        writer = Writer(DOMAIN).u32(len(self._kept))
        for _, item in sorted(self._kept.items()):
            writer.u32(item.index).u32(item.round).u32(item.slot).fixed(item.t2, 32)
            writer.blob(item.bitmap).fixed(item.vector_sha256, 32)
        write_atomic(self._path, writer.done(), mode=0o600)
