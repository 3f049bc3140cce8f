"""Which version of a record is the latest, and which former ones still say something.

The youngest by ``updated_at`` is the latest, so an older export may be imported at any time. Of two
versions of the same time the one that came last is a correction of the other. A version without a
time replaces whatever came before it: nobody can say which of them is the younger. Kinds without
that column go by arrival alone.
"""

from __future__ import annotations

import polars as pl

from shared.domain.schemas import KEY_COLUMNS, SCHEMAS
from shared.domain.vocabulary import Kind

TIME_COLUMN = "updated_at"
ROW = "__row"


def has_time(kind: Kind) -> bool:
    """Tell whether the versions of a kind's records say when they are from."""
    return TIME_COLUMN in SCHEMAS[kind]


def identifying(kind: Kind) -> list[str]:
    """Return the columns that :func:`superseded` looks at."""
    return [ROW, *KEY_COLUMNS[kind], *([TIME_COLUMN] if has_time(kind) else [])]


def superseded(versions: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """Return which versions are not their record's latest.

    Args:
        versions: every version of the records in question, in order of arrival, with the columns
            that :func:`identifying` names; ``__row`` (uint32) grows with arrival.
        kind: what they are versions of.

    Returns:
        Columns ``__row``, ascending, and ``former`` (true where the record was once like that,
        false where a later import corrected the version).
    """
    keys = list(KEY_COLUMNS[kind])
    rows = versions.filter(versions.select(keys).is_duplicated())
    if has_time(kind):
        untimed, at = pl.col(TIME_COLUMN).is_null(), pl.col(TIME_COLUMN).to_physical()
        # Without any, 0: no row comes before that.
        replaced_at = pl.when(untimed).then(pl.col(ROW)).max().over(keys).fill_null(0)
        uncorrected = rows.select(*keys, TIME_COLUMN).to_struct().is_last_distinct()
        holds = (pl.col(ROW) >= replaced_at) & uncorrected
    else:
        at, holds = pl.lit(0), pl.lit(True)
    rows = rows.select(*keys, ROW, at=at, former=holds)
    latest = rows.sort("former", "at", ROW, nulls_last=False).unique(keys, keep="last")
    return rows.join(latest, on=ROW, how="anti").select(ROW, "former").sort(ROW)
