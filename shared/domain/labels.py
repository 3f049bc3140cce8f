"""From verdicts and complaints to labels, by a written rule.

The rule, for each listing, as of a moment (nothing later is seen):

1. The latest verdict that is not ``unsure`` decides. A verdict reversed by then turns into a
   *hard negative*: label 0, class ``reversed``.
2. ``counterfeit`` is 1; ``authentic``, ``grey_market`` and ``other_ip`` are 0: they are other
   problems or none, and a class column keeps them apart.
3. Without such a verdict, a ``fake`` complaint confirmed by a test purchase or by customs is 1.
4. Everything else has no label and stays out: unlabelled is not negative, and a buyer's word
   alone is a feature, not a label.

Confidence is what the source is worth. A verdict from a test purchase or customs has seen the
goods: 1.0. An analyst's is 0.9 for counterfeit: test purchases confirm 62.5 % of mere
suspicions, but a verdict is more than a suspicion. Platforms and rules have seen less: 0.7.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

SOURCE_CONFIDENCE = {
    "test_purchase": 1.0,
    "customs": 1.0,
    "analyst": 0.9,
    "platform": 0.7,
    "rule": 0.7,
}
OTHER_CONFIDENCE = 0.7
"""Of a source this version does not know."""

CONFIRMING = ("test_purchase", "customs")
"""Sources of complaints that have had the goods in hand."""

REVERSED_CONFIDENCE = 1.0
"""An appeal that succeeded was looked at twice."""

LABELS = pl.Schema(
    {
        "listing_id": pl.String(),
        "label": pl.Int8(),
        "confidence": pl.Float32(),
        "class": pl.String(),
        "labelled_at": pl.Datetime("us", "UTC"),
    }
)


def derive_labels(
    listings: pl.DataFrame,
    complaints: pl.DataFrame,
    verdicts: pl.DataFrame,
    as_of: datetime,
) -> pl.DataFrame:
    """Return the labels known at a moment.

    Args:
        listings: canonical listings; only these get labels, in this order.
        complaints: canonical complaints.
        verdicts: canonical verdicts.
        as_of: the moment, aware; later verdicts, reversals and complaints do not exist yet.

    Returns:
        One row a labelled listing: ``listing_id``, ``label`` int8, ``confidence`` float32 in
        (0, 1], ``class`` (counterfeit, authentic, grey_market, other_ip, reversed) and
        ``labelled_at``, when it became known.
    """
    decided = _from_verdicts(verdicts, as_of)
    confirmed = _from_complaints(complaints, as_of).join(decided, on="listing_id", how="anti")
    labels = pl.concat([decided, confirmed])
    order = listings.select("listing_id").unique(maintain_order=True)
    return order.join(labels, on="listing_id", how="inner", maintain_order="left")


def _from_verdicts(verdicts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    reversed_by_then = pl.col("reversed_at").is_not_null() & (pl.col("reversed_at") <= as_of)
    confidence = pl.col("source").replace_strict(
        SOURCE_CONFIDENCE, default=OTHER_CONFIDENCE, return_dtype=pl.Float32
    )
    latest = (
        verdicts.filter((pl.col("decided_at") <= as_of) & (pl.col("verdict") != "unsure"))
        .with_columns(certainty=confidence)
        .sort("decided_at", "certainty", "verdict")
        .unique("listing_id", keep="last", maintain_order=True)
    )
    return latest.select(
        "listing_id",
        pl.when(reversed_by_then)
        .then(0)
        .otherwise(pl.col("verdict") == "counterfeit")
        .cast(pl.Int8)
        .alias("label"),
        pl.when(reversed_by_then)
        .then(REVERSED_CONFIDENCE)
        .otherwise(pl.col("certainty"))
        .cast(pl.Float32)
        .alias("confidence"),
        pl.when(reversed_by_then)
        .then(pl.lit("reversed"))
        .otherwise(pl.col("verdict"))
        .alias("class"),
        pl.when(reversed_by_then)
        .then(pl.col("reversed_at"))
        .otherwise(pl.col("decided_at"))
        .alias("labelled_at"),
    ).match_to_schema(LABELS)


def _from_complaints(complaints: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    confirmed = complaints.filter(
        (pl.col("claim") == "fake")
        & pl.col("source").is_in(CONFIRMING)
        & (pl.col("created_at") <= as_of)
    )
    return (
        confirmed.group_by("listing_id", maintain_order=True)
        .agg(labelled_at=pl.col("created_at").min())
        .select(
            "listing_id",
            pl.lit(1, dtype=pl.Int8).alias("label"),
            pl.lit(1.0, dtype=pl.Float32).alias("confidence"),
            pl.lit("counterfeit").alias("class"),
            "labelled_at",
        )
        .match_to_schema(LABELS)
    )
