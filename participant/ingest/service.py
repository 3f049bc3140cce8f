"""Brings an export into the store, all of its good rows or none, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from participant.ingest.convert import Plan, convert, make_plan
from participant.ingest.mapping import Mapping, identity_mapping, load_mapping
from participant.ingest.readers import RaggedCsv, open_source
from participant.ingest.rejects import Reject, RejectFile
from participant.ingest.sources import BATCH_ROWS, FileFacts, examine
from participant.store import Store
from participant.store.models import ImportedFile
from participant.store.writer import RecordWriter, Tally
from shared.domain.schemas import empty_frame
from shared.domain.vocabulary import Kind
from shared.errors import BadInput, ConfigError

Progress = Callable[[int, int | None], None]
"""Told rows read so far, and their (estimated) total."""

MappingLike = Mapping | Path | str | None

OTHER_SEPARATORS = ";\t|"
"""What stands between the fields of a CSV file that is not separated by commas."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file's rows.

    Attributes:
        kind: Which records.
        rows: Rows read.
        kept: Different records now stored as the file has them: added, updated or unchanged.
        added: Records that were new.
        updated: Records that were stored with other values: each has a version more, which is the
            latest unless it is older by ``updated_at``.
        unchanged: Records that were stored with the same values; one that comes again further down
            a long file is counted each time.
        duplicates: Further rows of records that the file has in several.
        rejected: Rows that were not kept.
        reasons: Reason code -> rows.
        rejects_path: The rejects file, if any row was rejected.
        already_imported: The same file was imported before; nothing was done.
        ignored: Columns of the file that the mapping does not mention.
        dry_run: Nothing was stored.
    """

    kind: Kind
    rows: int = 0
    kept: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rejects_path: Path | None = None
    already_imported: bool = False
    ignored: tuple[str, ...] = ()
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        path = str(self.rejects_path) if self.rejects_path else None
        return {**asdict(self), "rejects_path": path, "ignored": list(self.ignored)}


def read_records(
    path: Path, kind: Kind, mapping: MappingLike = None
) -> tuple[pl.DataFrame, list[Reject]]:
    """Read a file into memory without storing it.

    Args:
        path: CSV, TSV, JSON Lines or Parquet.
        kind: Which records the file holds.
        mapping: A mapping, a TOML file, a shipped mapping's name, or None for our own schema.

    Returns:
        Valid rows in file order and in the canonical schema, and the rows that were rejected.

    Raises:
        BadInput: the file cannot be used.
        ConfigError: the mapping cannot be used, or does not fit the file.
    """
    chosen = _resolve(mapping, kind)
    facts = examine(path, chosen.file)
    try:
        return _collect(_read(facts, chosen, careful=False), kind)
    except RaggedCsv:
        return _collect(_read(facts, chosen, careful=True), kind)


def import_file(
    store: Store,
    path: Path,
    kind: Kind,
    mapping: MappingLike = None,
    progress: Progress | None = None,
    *,
    dry_run: bool = False,
) -> ImportReport:
    """Import a file's valid rows; a row that is not valid goes to a rejects file.

    The rows become visible together at the end. When anything fails before, and after
    ``kill -9``, nothing of the file is in the store; running it again does it all.

    Args:
        store: The member's store.
        path: CSV, TSV, JSON Lines or Parquet.
        kind: Which records the file holds.
        mapping: A mapping, a TOML file, a shipped mapping's name, or None for our own schema.
        progress: Called after every batch.
        dry_run: Read and check everything, store nothing.

    Raises:
        BadInput: the file cannot be used.
        ConfigError: the mapping cannot be used, or does not fit the file.
        StateError: another import is running.
        StorageError: the disk is full, read-only or broken.
    """
    chosen = _resolve(mapping, kind)
    facts = examine(path, chosen.file)
    if _imported(store, facts, chosen):
        return ImportReport(kind, already_imported=True, dry_run=dry_run)
    tell = progress or (lambda _done, _total: None)
    try:
        return _import(_Job(store, facts, chosen, tell, dry_run), careful=False)
    except RaggedCsv:
        return _import(_Job(store, facts, chosen, tell, dry_run), careful=True)


@dataclass(frozen=True, slots=True)
class _Job:
    store: Store
    facts: FileFacts
    mapping: Mapping
    progress: Progress
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    plan: Plan
    frame: pl.DataFrame
    rejects: list[Reject]
    done: int


def _read(facts: FileFacts, mapping: Mapping, *, careful: bool) -> Iterator[_Batch]:
    """Yield the file's batches, converted; refuses a file without rows or one that changes."""
    done = 0
    with open_source(facts, mapping.file, careful=careful) as source:
        plan = _plan(facts, mapping, source.columns)
        for raw in source.batches(plan.needed):
            done += raw.frame.height + len(raw.rejects)
            frame, rejects = convert(plan, raw.frame, raw.rows)
            yield _Batch(plan, frame, [*raw.rejects, *rejects], done)
    if not done:
        raise BadInput(f"{facts.path.name} has no rows")
    facts.check_unchanged()


def _plan(facts: FileFacts, mapping: Mapping, columns: MappingType[str, pl.DataType]) -> Plan:
    """Return the plan; say what is wrong with the file where it is not the mapping's fault."""
    if not columns:
        raise BadInput(
            f"{facts.path.name} holds no JSON object with a field",
            hint="JSON Lines has one JSON object a line",
        )
    try:
        return make_plan(mapping, columns)
    except ConfigError as error:
        (first, *others) = columns
        other = next((sign for sign in OTHER_SEPARATORS if sign in first), "")
        if other and not others:
            raise BadInput(
                f"{facts.path.name} has one column only: it seems to be separated by {other!r}",
                hint="`data mapping guess` drafts a mapping that names the separator",
            ) from error
        if mapping == identity_mapping(mapping.kind):
            hint = "rename it in the file, or let `data mapping guess` draft a mapping"
            raise ConfigError(error.message, hint=hint) from error
        raise


def _collect(batches: Iterator[_Batch], kind: Kind) -> tuple[pl.DataFrame, list[Reject]]:
    frames, rejects = [empty_frame(kind)], []
    for batch in batches:
        frames.append(batch.frame)
        rejects.extend(batch.rejects)
    return pl.concat(frames), rejects


def _import(job: _Job, *, careful: bool) -> ImportReport:
    store, facts, kind = job.store, job.facts, job.mapping.kind
    rejects = RejectFile(store.folder / "rejects" / f"{kind}-{facts.sha256[:16]}.jsonl")
    ignored: tuple[str, ...] = ()
    rows = 0
    try:
        with store.records.writer(kind) as writer, _Gathered(writer) as gathered:
            for batch in _read(facts, job.mapping, careful=careful):
                gathered.add(batch.frame)
                rejects.add(batch.rejects)
                rows, ignored = batch.done, batch.plan.ignored
                job.progress(rows, facts.lines or None)
            gathered.finish()
            report = _report(job, rows, writer.tally, rejects, ignored)
            if not job.dry_run:
                rejects.keep()
                _commit(job, writer, report)
    finally:
        rejects.discard()
    return report


class _Gathered:
    """Hands batches on in the size of a segment, since every hand-over makes one.

    Segments are hashed and written by a thread of their own while the next rows are read, and no
    more than one at a time, so that two segments' worth of rows is the most that is held.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._frames: list[pl.DataFrame] = []
        self._thread = ThreadPoolExecutor(1, "segment-writer")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown()

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        if sum(held.height for held in self._frames) >= BATCH_ROWS:
            self._hand_over()

    def finish(self) -> None:
        """Return when everything is written; whatever went wrong is raised at the latest here."""
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        if self._frames:
            self._wait()
            self._writing = self._thread.submit(self._writer.add, pl.concat(self._frames))
            self._frames.clear()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def _commit(job: _Job, writer: RecordWriter, report: ImportReport) -> None:
    """Make rows, import and audit event durable together."""
    done = ImportedFile(
        sha256=job.facts.sha256,
        kind=report.kind,
        mapping_sha256=job.mapping.digest,
        rows_kept=report.kept,
        rows_rejected=report.rejected,
        at=job.store.clock.now(),
    )
    event = {
        "kind": report.kind,
        "file_sha256": job.facts.sha256,
        "mapping_sha256": job.mapping.digest,
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "rejected": report.rejected,
    }
    with job.store.database.transaction() as session:
        writer.commit(session)
        session.add(done)
        job.store.audit.append("data.imported", event, session=session)


def _report(
    job: _Job, rows: int, tally: Tally, rejects: RejectFile, ignored: tuple[str, ...]
) -> ImportReport:
    return ImportReport(
        kind=job.mapping.kind,
        rows=rows,
        kept=tally.kept,
        added=tally.added,
        updated=tally.updated,
        unchanged=tally.unchanged,
        duplicates=tally.duplicates,
        rejected=rejects.count,
        reasons=dict(rejects.reasons),
        rejects_path=rejects.path if rejects.count and not job.dry_run else None,
        ignored=ignored,
        dry_run=job.dry_run,
    )


def _imported(store: Store, facts: FileFacts, mapping: Mapping) -> bool:
    key = (facts.sha256, mapping.kind, mapping.digest)
    with store.database.reading() as session:
        return session.get(ImportedFile, key) is not None


def _resolve(mapping: MappingLike, kind: Kind) -> Mapping:
    if not isinstance(mapping, Mapping):
        return load_mapping(mapping, kind)
    if mapping.kind != kind:
        raise ConfigError(f"the mapping makes {mapping.kind}, not {kind}")
    return mapping
