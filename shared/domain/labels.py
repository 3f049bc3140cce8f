"""From verdicts and complaints to labels, by a written rule.

The rule, for each listing, as of a moment (nothing later is seen). What was said of it are words:

- a verdict that is not ``unsure`` and not reversed by then, when it was decided: ``counterfeit`` is
  1; ``authentic``, ``grey_market`` and ``other_ip`` are 0: they are other problems or none, and a
  class column keeps them apart;
- a ``counterfeit`` verdict that was reversed by then, when it was reversed: a *hard negative*,
  label 0, class ``reversed``. Any other verdict that was reversed says nothing any more, nor does
  one that would have been reversed before it was decided;
- a ``fake`` complaint from a test purchase or from customs, when it was made: 1.

The latest word of those who have looked (analysts, test purchases, customs) decides; only without
one does the latest word of platforms, rules and others. Everything else has no label and stays
out: unlabelled is not negative, and a buyer's word alone is a feature, not a label.

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

LOOKED = ("test_purchase", "customs", "analyst")
"""Sources of verdicts behind which somebody has looked; no automatic word stands against theirs."""

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

WORDS = pl.Schema({**LABELS, "looked": pl.Boolean()})


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
    said = pl.concat([_verdicts(verdicts, as_of), _complaints(complaints, as_of)])
    # Of words of the same moment the surer one decides, and the class fixes the rest.
    latest = said.sort("looked", "labelled_at", "confidence", "class").unique(
        "listing_id", keep="last", maintain_order=True
    )
    order = listings.select("listing_id").unique(maintain_order=True)
    return order.join(latest, on="listing_id", how="inner", maintain_order="left").select(
        LABELS.names()
    )


def _verdicts(verdicts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Return what verdicts say: those that stand, and reversals of ``counterfeit``."""
    overturned = pl.col("reversed_at").is_not_null() & (pl.col("reversed_at") <= as_of)
    possible = pl.col("reversed_at").is_null() | (pl.col("reversed_at") >= pl.col("decided_at"))
    confidence = pl.col("source").replace_strict(
        SOURCE_CONFIDENCE, default=OTHER_CONFIDENCE, return_dtype=pl.Float32
    )
    known = verdicts.filter(
        (pl.col("decided_at") <= as_of) & (pl.col("verdict") != "unsure") & possible
    )
    words = known.filter(~overturned | (pl.col("verdict") == "counterfeit"))
    return words.select(
        "listing_id",
        (~overturned & (pl.col("verdict") == "counterfeit")).cast(pl.Int8).alias("label"),
        pl.when(overturned)
        .then(REVERSED_CONFIDENCE)
        .otherwise(confidence)
        .cast(pl.Float32)
        .alias("confidence"),
        pl.when(overturned).then(pl.lit("reversed")).otherwise(pl.col("verdict")).alias("class"),
        pl.when(overturned)
        .then(pl.col("reversed_at"))
        .otherwise(pl.col("decided_at"))
        .alias("labelled_at"),
        pl.col("source").is_in(LOOKED).alias("looked"),
    ).match_to_schema(WORDS)


def _complaints(complaints: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Return what complaints of those say who had the goods in hand."""
    confirmed = complaints.filter(
        (pl.col("claim") == "fake")
        & pl.col("source").is_in(CONFIRMING)
        & (pl.col("created_at") <= as_of)
    )
    return confirmed.select(
        "listing_id",
        pl.lit(1, dtype=pl.Int8).alias("label"),
        pl.lit(1.0, dtype=pl.Float32).alias("confidence"),
        pl.lit("counterfeit").alias("class"),
        pl.col("created_at").alias("labelled_at"),
        pl.lit(True).alias("looked"),
    ).match_to_schema(WORDS)
