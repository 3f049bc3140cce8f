"""Scoring many records: risk, band and reasons for each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from participant.deployment.active import LoadedModel
from participant.scoring.attribution import attribute, beside_peers
from participant.scoring.reasons import row_reasons
from participant.training.calibration import Calibration
from participant.training.inference import scores
from shared.domain.schemas import TIME, empty_frame
from shared.model.features.build import CHUNK_ROWS, build_features
from shared.model.features.history import History

Told = Callable[[int, int], None]

TOP_REASONS = 4

SCORES = pl.Schema(
    {
        "id": pl.String(),
        "risk": pl.Float32(),
        "band": pl.String(),
        "reasons": pl.List(pl.String),
    }
)
"""Columns of the result: risk is 0 to 100, band is auto, notice or triage."""

_TABLES: dict[str, tuple[Literal["listings", "shops"], str]] = {
    "listing": ("listings", "listing_id"),
    "shop": ("shops", "shop_id"),
}


def score_frame(
    frame: pl.DataFrame,
    model: LoadedModel,
    *,
    as_of: datetime,
    complaints: pl.DataFrame | None = None,
    known: pl.DataFrame | None = None,
    top: int = TOP_REASONS,
    progress: Told | None = None,
) -> pl.DataFrame:
    """Score records with a member's model.

    Args:
        frame: records in the canonical columns of the model's kind.
        model: the active model.
        as_of: the moment of scoring; complaints after it are not seen.
        complaints: the member's complaints.
        known: the member's stored listings, from which sellers' pasts are read.
        top: most reasons a record; 0 leaves explanations out, which is faster.
        progress: told (records done, records in all) after each chunk.

    Returns:
        :data:`SCORES`, one row a record, in the order of ``frame``.

    Raises:
        BadInput: the frame lacks a column of the canonical schema.
    """
    history = _history(frame, model, complaints, known)
    parts = [pl.DataFrame(schema=SCORES)]
    for start in range(0, frame.height, CHUNK_ROWS):
        rows = frame.slice(start, CHUNK_ROWS)
        parts.append(_score_chunk(rows, model, history, as_of, top))
        if progress is not None:
            progress(start + rows.height, frame.height)
    return pl.concat(parts)


def _history(
    frame: pl.DataFrame,
    model: LoadedModel,
    complaints: pl.DataFrame | None,
    known: pl.DataFrame | None,
) -> History | None:
    if model.kind != "listing":
        return None
    needed = ["listing_id", "seller_id", "created_at"]
    stored = empty_frame("listings") if known is None else known
    # What is scored counts among its seller's offers, as a training listing does among its own.
    offers = pl.concat([frame.select(needed), stored.select(needed)]).unique("listing_id")
    return History(offers, empty_frame("complaints") if complaints is None else complaints)


def _score_chunk(
    frame: pl.DataFrame, model: LoadedModel, history: History | None, as_of: datetime, top: int
) -> pl.DataFrame:
    table, key = _TABLES[model.kind]
    batch = build_features(
        frame,
        table,
        hash_bits=model.spec.hash_bits,
        as_of=as_of,
        history=history,
        compact=model.spec.linear,
        trace=top > 0,
    )
    calibration = model.calibration or Calibration("none")
    risk = calibration.risk(scores(model.spec, model.vector, batch))
    reasons: list[list[str]] = [[] for _ in range(frame.height)]
    if top > 0:
        found = beside_peers(attribute(model.spec, model.vector, batch))
        reasons = [
            row_reasons(row, index, found, as_of, top)
            for index, row in enumerate(_with_counts(frame, history, as_of).iter_rows(named=True))
        ]
    return pl.DataFrame(
        {
            "id": frame[key],
            "risk": risk.astype(np.float32),
            "band": calibration.bands(risk),
            "reasons": reasons,
        },
        schema=SCORES,
    )


def _with_counts(frame: pl.DataFrame, history: History | None, as_of: datetime) -> pl.DataFrame:
    if history is None:
        return frame
    moments = pl.repeat(as_of, frame.height, dtype=TIME, eager=True)
    counts = history.counts(frame, moments)
    return frame.with_columns(
        pl.Series(name, values, nan_to_null=True) for name, values in counts.items()
    )
