"""What a run must remember to survive ``kill -9``: written and flushed before it is acted on.

Files of ``runs/<run_id>/``, each replaced atomically:

- ``manifest.bin``: the signed manifest;
- ``model-NNNNN.f32``: the model after NNNNN sums, raw little-endian float32; the last two are kept,
  and the first one, from which an audit recomputes the others;
- ``checkpoint.bin``: the last round summed, the last round released, burnt rounds in a row;
- ``session.bin``: the set-up of the open session (its messages, nothing secret of a member);
- ``round.bin``: slots used; slot and T2 of the open round, then its bitmap and every answer;
- ``sum.bin``: the accumulator of the open round, written before the bitmap is;
- ``excluded.bin``: members proven to cheat, or in each other's complaints; absent without any;
- ``transcript/NNNNN.bin``: one record for every released round, ``NNNNN-GGG.bin`` of a group;
- ``evidence/NNNNN.bin`` and ``setups/SESSION.bin``: the evidence that the records name by hash;
- ``masked/NNNNN/MMMMM.u64``: where the run keeps them, each survivor's masked vector, raw
  little-endian uint64; of summed rounds, and of one that is open;
- ``groups/GGG/``: in a run in groups, each group's own checkpoint, session, round and vectors, and
  ``part.bin`` with ``part.u64``: what came of the open round there, its record and its sum.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.encoding import Reader, Writer
from shared.errors import StateError, VerificationError
from shared.files import fsync_dir, write_atomic
from shared.limits import MAX_MEMBERS
from shared.secagg.messages import ascending

CHECKPOINT = "touchstone/run-checkpoint/v1"
EXCLUDED = "touchstone/run-excluded/v1"


def _made(path: Path) -> Path:
    """Return a path whose folders exist."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    return path


def record_name(round_no: int, group: int = 0) -> str:
    """Return the file name of a round's record, or of one group's."""
    return f"{round_no:05}-{group:03}.bin" if group else f"{round_no:05}.bin"


@dataclass(frozen=True)
class Checkpoint:
    """How far a run has come.

    Attributes:
        round: last round that is over, summed or burnt; 0 before the first.
        trained: rounds whose sum went into the model.
        burnt_in_a_row: rounds released but not summed, since the last sum.
        session: sessions opened so far.
    """

    round: int = 0
    trained: int = 0
    burnt_in_a_row: int = 0
    session: int = 0

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(CHECKPOINT).u32(self.round).u32(self.trained)
        return writer.u32(self.burnt_in_a_row).u32(self.session).done()

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, CHECKPOINT)
        value = cls(reader.u32(), reader.u32(), reader.u32(), reader.u32())
        reader.end()
        return value


def encode_excluded(members: Iterable[int]) -> bytes:
    """Return the canonical encoding of a set of member indices."""
    return Writer(EXCLUDED).u32s(sorted(members)).done()


def decode_excluded(data: bytes) -> frozenset[int]:
    """Read a canonical encoding; raises :class:`MalformedMessage`."""
    reader = Reader(data, EXCLUDED)
    members = ascending(reader.u32s(MAX_MEMBERS))
    reader.end()
    return frozenset(members)


class Journal:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, manifest: bytes, model: NDArray[np.float32]) -> Journal:
        """Begin a run's folder; a half-made one from a crash is made anew."""
        journal = cls(folder)
        if (folder / "checkpoint.bin").exists():
            raise StateError("the run has begun already")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "transcript").mkdir(parents=True, mode=0o700)
        fsync_dir(folder.parent)
        write_atomic(folder / "manifest.bin", manifest, mode=0o600)
        journal._write_model(0, model)
        write_atomic(folder / "checkpoint.bin", Checkpoint().encode(), mode=0o600)
        return journal

    def of_group(self, number: int) -> Journal:
        """Return a group's own journal; number 0 is this one."""
        return Journal(self.folder / "groups" / f"{number:03}") if number else self

    def begin_group(self, number: int) -> Journal:
        """Return a group's own journal, made now if it was not yet."""
        journal = self.of_group(number)
        if not journal.begun:
            journal.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fsync_dir(self.folder)
            journal._advance(Checkpoint())
        return journal

    def save_part(self, record: bytes, total: NDArray[np.uint64] | None = None) -> None:
        """Persist what came of the open round in this group: its sum first, then its record."""
        if total is not None:
            data = np.ascontiguousarray(total, dtype="<u8").data
            write_atomic(self.folder / "part.u64", data.cast("B"), mode=0o600)
        write_atomic(self.folder / "part.bin", record, mode=0o600)

    def part(self) -> bytes | None:
        """Return the record of the open round in this group, or None."""
        return self._read("part.bin")

    def part_sum(self) -> NDArray[np.uint64]:
        """Return the sum that belongs to :meth:`part`, uint64[words]."""
        return np.fromfile(self.folder / "part.u64", dtype="<u8").astype(np.uint64)

    def close_part(self, number: int, *, burnt: bool) -> None:
        """End round ``number`` in this group; the next one starts without a part."""
        checkpoint = self.checkpoint()
        again = checkpoint.burnt_in_a_row + 1 if burnt else 0
        self._advance(replace(checkpoint, round=number, burnt_in_a_row=again))
        for name in ("part.bin", "part.u64"):
            (self.folder / name).unlink(missing_ok=True)

    @property
    def begun(self) -> bool:
        """Whether :meth:`create` came to its end."""
        return (self.folder / "checkpoint.bin").exists()

    def manifest(self) -> bytes:
        """Return the signed manifest."""
        return (self.folder / "manifest.bin").read_bytes()

    def checkpoint(self) -> Checkpoint:
        """Return how far the run has come."""
        return Checkpoint.decode((self.folder / "checkpoint.bin").read_bytes())

    def model(self, trained: int, n_params: int) -> NDArray[np.float32]:
        """Return the model after ``trained`` sums, float32 [n_params].

        Raises:
            VerificationError: the file is not of that size.
        """
        data = np.fromfile(self.model_path(trained), dtype=np.uint8)
        if data.size != 4 * n_params:
            raise VerificationError("the checkpointed model is damaged")
        return data.view("<f4").astype(np.float32, copy=False)

    def _write_model(self, trained: int, model: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(model, dtype="<f4").data.cast("B")
        write_atomic(self.model_path(trained), data, mode=0o600)

    def save_session(self, setup: bytes) -> None:
        """Persist a session's set-up before its first round."""
        write_atomic(self.folder / "session.bin", setup, mode=0o600)

    def session(self) -> bytes | None:
        """Return the open session's set-up, or None."""
        return self._read("session.bin")

    def close_session(self) -> None:
        """Forget the open session and what was open in it."""
        for name in ("session.bin", "round.bin", "sum.bin"):
            (self.folder / name).unlink(missing_ok=True)

    def count_session(self, number: int) -> None:
        """Note that session ``number`` is being set up, so that no other takes its number."""
        self._advance(replace(self.checkpoint(), session=number))

    def exclude(self, members: Iterable[int]) -> None:
        """Note members that no later session of the run is set up with."""
        known = self.excluded()
        if not known.issuperset(members):
            write_atomic(
                self.folder / "excluded.bin", encode_excluded(known.union(members)), mode=0o600
            )

    def excluded(self) -> frozenset[int]:
        """Return the members that no later session of the run is set up with."""
        data = self._read("excluded.bin")
        return frozenset() if data is None else decode_excluded(data)

    def save_round(self, state: bytes) -> None:
        """Persist the slots used and the open round's state before acting on it."""
        write_atomic(self.folder / "round.bin", state, mode=0o600)

    def save_sum(self, accumulator: memoryview) -> None:
        """Persist the sum of the masked vectors, before the round's bitmap."""
        write_atomic(self.folder / "sum.bin", accumulator, mode=0o600)

    def round(self) -> tuple[bytes, bytes] | None:
        """Return the open round's state and accumulator, or None."""
        state = self._read("round.bin")
        return None if state is None else (state, self._read("sum.bin") or b"")

    def forget_masked(self, number: int) -> None:
        """Remove what is kept of a round's vectors: it is tried anew, or was burnt."""
        shutil.rmtree(self.folder / "masked" / f"{number:05}", ignore_errors=True)

    def keep_masked(self, number: int, index: int, vector: NDArray[np.uint64]) -> None:
        """Keep a member's masked vector, uint64[words], for the audit."""
        data = np.ascontiguousarray(vector, dtype="<u8").data.cast("B")
        write_atomic(_made(self.masked_path(number, index)), data, mode=0o600)

    def masked_path(self, number: int, index: int) -> Path:
        """Return where a member's masked vector lies, if it is kept."""
        return self.folder / "masked" / f"{number:05}" / f"{index:05}.u64"

    def keep_evidence(self, number: int, evidence: bytes, session_id: bytes, setup: bytes) -> None:
        """Persist a released round's evidence and its session's, before the record is written."""
        for path, data in (
            (self.setup_path(session_id), setup),
            (self.evidence_path(number), evidence),
        ):
            write_atomic(_made(path), data, mode=0o600)

    def evidence_path(self, number: int) -> Path:
        """Return where a released round's evidence lies."""
        return self.folder / "evidence" / f"{number:05}.bin"

    def setup_path(self, session_id: bytes) -> Path:
        """Return where the evidence of a session's set-up lies."""
        return self.folder / "setups" / f"{session_id.hex()}.bin"

    def model_path(self, trained: int) -> Path:
        """Return where the model after ``trained`` sums lies."""
        return self.folder / f"model-{trained:05}.f32"

    def finish_round(
        self, number: int, model: NDArray[np.float32], record: bytes | Mapping[int, bytes]
    ) -> None:
        """Persist a summed round: transcript record (or one a group), next model, checkpoint."""
        checkpoint = self.checkpoint()
        self._write_records(number, record)
        self._write_model(checkpoint.trained + 1, model)
        self._advance(
            replace(checkpoint, round=number, trained=checkpoint.trained + 1, burnt_in_a_row=0)
        )
        if checkpoint.trained > 1:  # the first one stays
            self.model_path(checkpoint.trained - 1).unlink(missing_ok=True)

    def burn_round(self, number: int, record: bytes | Mapping[int, bytes]) -> None:
        """Persist that a round was released but not summed; the model stays as it is."""
        checkpoint = self.checkpoint()
        self._write_records(number, record)
        self._advance(
            replace(checkpoint, round=number, burnt_in_a_row=checkpoint.burnt_in_a_row + 1)
        )

    def _write_records(self, number: int, record: bytes | Mapping[int, bytes]) -> None:
        records = {0: record} if isinstance(record, bytes) else record
        for group, data in sorted(records.items()):
            path = self.folder / "transcript" / record_name(number, group)
            write_atomic(path, data, mode=0o600)

    def transcript(self) -> list[bytes]:
        """Return the records of the rounds released, in order."""
        return [path.read_bytes() for path in sorted((self.folder / "transcript").glob("*.bin"))]

    def _advance(self, checkpoint: Checkpoint) -> None:
        write_atomic(self.folder / "checkpoint.bin", checkpoint.encode(), mode=0o600)

    def _read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None
