"""Labelled records as they were at the moments they are judged at: nothing in them is younger."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.training.split import NO_TIME, position
from shared.domain.labels import derive_labels
from shared.domain.schemas import TIME

Table = Literal["listings", "shops"]

HORIZONS_DAYS = (1, 14, 56)
"""Ages at which a training listing is looked at. Fresh listings have few complaints and old ones
many; a model that saw only old ones would take a clean record for innocence."""


def known_records(
    kind: Table,
    frame: pl.DataFrame,
    complaints: pl.DataFrame,
    verdicts: pl.DataFrame,
    as_of: datetime,
    older: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return the labelled records of ``frame`` as they were when judged, in its order.

    A shop carries its own label, certain and of no known time; it is judged when it was last looked
    at. A listing gets what :func:`~shared.domain.labels.derive_labels` says was known at ``as_of``.
    It is judged one of :data:`HORIZONS_DAYS` after it appeared, chosen by a hash of its id, or at
    ``as_of`` if it has no time, and shown in the version that was there then. A listing of which
    only younger versions are stored is judged when the oldest of them appeared.

    Args:
        kind: what ``frame`` holds.
        frame: the latest version of every record.
        complaints: canonical complaints about the listings.
        verdicts: canonical verdicts on the listings.
        as_of: the moment; labels are those known then.
        older: former versions of listings in order of arrival, in the columns of ``frame``.

    Returns:
        The columns of ``frame`` and ``label``, ``confidence``, ``class`` and ``labelled_at``, and
        ``judged_at``, never after ``as_of``.
    """
    moment = pl.lit(as_of, dtype=TIME)
    if kind == "shops":
        fraud = pl.when(pl.col("label") == 1)
        return frame.filter(pl.col("label").is_not_null()).with_columns(
            pl.lit(1.0, dtype=pl.Float32).alias("confidence"),
            fraud.then(pl.lit("counterfeit")).otherwise(pl.lit("authentic")).alias("class"),
            pl.lit(None, dtype=TIME).alias("labelled_at"),
            pl.min_horizontal("updated_at", moment).alias("judged_at"),
        )
    labels = derive_labels(frame, complaints, verdicts, as_of)
    days = pl.Series("days", horizons(labels["listing_id"]), dtype=pl.Int64)
    versions = frame if older is None or older.is_empty() else pl.concat([older, frame])
    shown = _shown(versions, labels.with_columns(days), moment)
    # The wide rows, with their texts, are moved once.
    order = frame.select("listing_id").join(shown, "listing_id", maintain_order="left")
    told = [*(name for name in labels.columns if name != "listing_id"), "judged_at"]
    return versions[order["row"]].hstack(order.select(told))


def spoken_of(complaints: pl.DataFrame, verdicts: pl.DataFrame) -> pl.Series:
    """Return the ids of the listings that can have a label: no other's former versions matter."""
    return pl.concat([complaints["listing_id"], verdicts["listing_id"]]).unique()


def horizons(listing_ids: pl.Series) -> list[int]:
    """Return the age in days, one of :data:`HORIZONS_DAYS`, at which each listing is due."""
    choices = len(HORIZONS_DAYS)
    return [HORIZONS_DAYS[int(position(name) * choices)] for name in listing_ids]


def _shown(versions: pl.DataFrame, due: pl.DataFrame, now: pl.Expr) -> pl.DataFrame:
    """Return for each due listing the row of the version that was there then, and ``judged_at``.

    A version is there from its ``updated_at`` on; one without is taken to have always been there.
    """
    times = versions.select("listing_id", "created_at", "updated_at").with_row_index("row")
    born = pl.col("created_at").min().over("listing_id")
    there = pl.col("updated_at").is_null() | (pl.col("updated_at") <= pl.col("due"))
    since = pl.col("updated_at").dt.epoch("us").fill_null(np.iinfo(np.int64).min + 1)
    return (
        times.join(due, "listing_id", maintain_order="left")
        .with_columns(pl.min_horizontal(born + pl.duration(days="days"), now).alias("due"))
        # Of those that are there the youngest, else of the others the oldest; then the last come.
        .with_columns(
            there.alias("there"), pl.when(there).then(since).otherwise(-since).alias("at")
        )
        .sort("there", "at", maintain_order=True)
        .unique("listing_id", keep="last", maintain_order=True)
        .with_columns(
            pl.min_horizontal(pl.max_horizontal("due", "updated_at"), now).alias("judged_at")
        )
    )


def groups_of(kind: Table, known: pl.DataFrame) -> list[str]:
    """Return what must not stand on both sides of the split: a listing's seller, a shop's host."""
    names = pl.col("host") if kind == "shops" else pl.coalesce("seller_id", "listing_id")
    return known.select(names).to_series().to_list()


def times_of(kind: Table, known: pl.DataFrame) -> NDArray[np.int64]:
    """Return int64[n] seconds since 1970 by which records are split, -1 if unknown.

    A shop's age is the strongest honest signal, so judging only the youngest would judge another
    population: shops are split by host alone.
    """
    if kind == "shops":
        return np.full(known.height, NO_TIME, dtype=np.int64)
    found: NDArray[np.int64] = known["created_at"].dt.epoch("s").fill_null(int(NO_TIME)).to_numpy()
    return found.astype(np.int64)
