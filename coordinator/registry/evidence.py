"""What a run's journal holds behind its transcript: the files that members recompute it from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from coordinator.registry.models import PublishedFile, unreadable
from coordinator.rounds.journal import Journal, record_name
from shared.encoding import Reader
from shared.errors import NotFound
from shared.trust.manifest import SIGNED_DOMAIN, RunManifest
from shared.trust.round_record import Outcome, RoundRecord


class Kind(IntEnum):
    """Which file; numbered as in the protocol."""

    MANIFEST = 1
    FIRST_MODEL = 2
    SETUP = 3
    ROUND = 4
    VECTOR = 5


@dataclass(frozen=True)
class Wanted:
    """One file of a run.

    Attributes:
        kind: which.
        round: a released round, for a set-up, a round's evidence or a vector.
        group: of that round, 0 in a run without groups.
        member: whose vector.
    """

    kind: Kind
    round: int = 0
    group: int = 0
    member: int = 0


@dataclass(frozen=True)
class JournalEvidence:
    """The evidence of one run, for an audit on this machine; see ``EvidenceSource``.

    Attributes:
        journal: the run's.
    """

    journal: Journal

    def setup(self, record: RoundRecord) -> bytes:
        """Return the evidence of the record's session."""
        return _read(setup_path(self.journal, record))

    def round(self, record: RoundRecord) -> bytes:
        """Return the record's own evidence."""
        return _read(round_path(self.journal, record))

    def first_model(self) -> bytes:
        """Return the first model's little-endian float32 bytes."""
        return _read(self.journal.model_path(0))

    def vector(self, record: RoundRecord, index: int) -> bytes:
        """Return a survivor's masked vector, little-endian u64."""
        return _read(vector_path(self.journal, record, index))


def released(journal: Journal, round_no: int, group: int) -> RoundRecord:
    """Return the record of a round that is over: nothing of an open one is handed out.

    Raises:
        NotFound: the round (of that group) was not released, or is not over.
    """
    return RoundRecord.decode(_read(journal.folder / "transcript" / record_name(round_no, group)))


def setup_path(journal: Journal, record: RoundRecord) -> Path:
    """Return where the evidence of a record's session lies."""
    return journal.of_group(record.group).setup_path(record.session_id)


def round_path(journal: Journal, record: RoundRecord) -> Path:
    """Return where a record's evidence lies."""
    return journal.of_group(record.group).evidence_path(record.round)


def vector_path(journal: Journal, record: RoundRecord, index: int) -> Path:
    """Return where a survivor's masked vector lies.

    Raises:
        NotFound: it was not summed.
    """
    if record.outcome is Outcome.BURNT or index not in record.survivors:
        raise NotFound(f"member {index} has no summed vector in round {record.round}")
    return journal.of_group(record.group).masked_path(record.round, index)


def file_of(journal: Journal, signed_manifest: bytes, wanted: Wanted) -> PublishedFile:
    """Return one file for sending; see :meth:`~coordinator.registry.service.Registry.evidence`."""
    if wanted.kind is Kind.MANIFEST:
        return PublishedFile.of_bytes(signed_manifest)
    if wanted.kind is Kind.FIRST_MODEL:
        body = Reader(signed_manifest, SIGNED_DOMAIN).blob()
        return _on_disk(journal.model_path(0), RunManifest.decode(body).initial_model)
    record = released(journal, wanted.round, wanted.group)
    if wanted.kind is Kind.SETUP:
        return _on_disk(setup_path(journal, record), record.setup_sha256)
    if wanted.kind is Kind.ROUND:
        return _on_disk(round_path(journal, record), record.evidence_sha256)
    path = vector_path(journal, record, wanted.member)
    return _on_disk(path, dict(record.vectors)[wanted.member])


def _on_disk(path: Path, sha256: bytes) -> PublishedFile:
    try:
        return PublishedFile(path.stat().st_size, sha256, path)
    except FileNotFoundError as error:
        raise _not_kept(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _not_kept(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _not_kept(path: Path) -> NotFound:
    return NotFound(f"the coordinator has kept no {path.parent.name}/{path.name} of this run")
