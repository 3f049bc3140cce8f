"""Scoring a file with the member's active model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from participant.deployment.active import active_model
from participant.ingest.rejects import RejectFile
from participant.ingest.service import read_records
from participant.scoring.batch import Told, score_frame
from participant.store import Store
from shared.errors import BadInput, NotFound
from shared.files import write_atomic

_TABLES: dict[str, Literal["listings", "shops"]] = {"listing": "listings", "shop": "shops"}


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What became of a file.

    Attributes:
        rows: records scored.
        rejected: rows that could not be read as records.
        rejects_path: where they are explained, None without any.
        bands: records in each action band.
        release_id: the model that scored.
        out: where the scores are.
    """

    rows: int
    rejected: int
    rejects_path: Path | None
    bands: dict[str, int]
    release_id: str
    out: Path

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "rejects_path": None if self.rejects_path is None else str(self.rejects_path),
            "bands": self.bands,
            "release_id": self.release_id,
            "out": str(self.out),
        }


def score_file(
    state_dir: Path,
    source: Path,
    out: Path,
    *,
    mapping: str | None = None,
    as_of: datetime | None = None,
    top: int,
    progress: Told | None = None,
) -> ScoreReport:
    """Score a CSV, JSON Lines or Parquet file with the active model.

    The result appears whole or not at all. Rows that are no valid records are left out of it and
    explained in ``<out>.rejects.jsonl``.

    Args:
        state_dir: the member's state folder.
        source: the file.
        out: ``.parquet``, ``.csv`` or ``.jsonl``.
        mapping: a mapping file or the name of a shipped one; None for our own schema.
        as_of: the moment of scoring; now by default.
        top: most reasons a record.
        progress: told records done and in all.

    Raises:
        NotFound: the member has no active model.
        BadInput: the file cannot be read, or the format of ``out`` is unknown.
        ConfigError: the mapping does not fit.
        VerificationError: the model's file is not the one that was activated.
        StorageError: the result cannot be written.
    """
    write = _writer(out)
    if not out.parent.is_dir():
        raise BadInput(f"the folder {out.parent} does not exist", hint="make it first")
    model = active_model(state_dir)
    if model is None:
        raise NotFound(
            "there is no active model",
            hint="take part in a run, or activate one with `touchstone-participant model activate`",
        )
    store = Store.open(state_dir)
    try:
        frame, rejects = read_records(source, _TABLES[model.kind], mapping)
        scored = score_frame(
            frame,
            model,
            as_of=as_of or store.clock.now(),
            complaints=store.records.frame("complaints"),
            known=store.records.frame("listings"),
            top=top,
            progress=progress,
        )
    finally:
        store.close()
    counts = dict(scored["band"].value_counts().iter_rows())
    bands = {name: int(counts.get(name, 0)) for name in ("auto", "notice", "triage")}
    told = RejectFile(out.with_name(f"{out.name}.rejects.jsonl"))
    try:
        told.add(rejects)
        # Last, so that where there are scores there is also what was left out of them.
        kept = told.keep()
        write_atomic(out, write(scored), mode=0o600)
    finally:
        told.discard()
    return ScoreReport(scored.height, told.count, kept, bands, model.release_id, out)


def _writer(out: Path) -> Callable[[pl.DataFrame], bytes]:
    writers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}
    if out.suffix not in writers:
        raise BadInput(
            f"scores cannot be written as {out.suffix or 'a file without an ending'}",
            hint=f"end the name in {', '.join(writers)}",
        )
    return writers[out.suffix]


def _parquet(scored: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    scored.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _csv(scored: pl.DataFrame) -> bytes:
    return scored.with_columns(pl.col("reasons").list.join("; ")).write_csv().encode()


def _json_lines(scored: pl.DataFrame) -> bytes:
    return scored.write_ndjson().encode()
