"""Part ``duplicates``: equal records under other ids, and texts that are nearly the same."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.contract.minhash import TEXT_CHARS, clusters
from participant.contract.report import Figures, Finding, Part, finding
from participant.contract.rules import SHARE_TOLD
from participant.contract.view import View
from shared.domain.schemas import SCHEMAS

I64 = NDArray[np.int64]

_OWN = ("listing_id", "shop_id", "url", "host", "created_at", "updated_at", "label")
"""Columns in which copies differ, or which say nothing of what is offered."""


def check_duplicates(view: View) -> Part:
    """Count copies among all records, and those that stand on both sides of the split."""
    equal = _equal_records(view)
    figures: Figures = {"exact": int(equal)}
    findings: list[Finding] = []
    if equal > SHARE_TOLD * view.frame.height:
        findings.append(finding("exact_duplicates", int(equal), view.frame.height))
    if view.table == "listings":
        near, more = _near(view)
        figures |= near
        findings += more
    return Part(figures=figures, findings=tuple(findings))


def _equal_records(view: View) -> int:
    """Return how many records repeat an earlier one; a shop is told by its host."""
    if view.table == "shops":
        return view.frame.height - view.frame["host"].n_unique()
    columns = [name for name in SCHEMAS["listings"] if name not in _OWN]
    prints = (
        view.records.scan("listings")
        .select(pl.struct(columns).hash(0).alias("print"))
        .collect()
        .to_series()
    )
    return len(prints) - prints.n_unique()


def _near(view: View) -> tuple[Figures, list[Finding]]:
    names, texts = _texts(view)
    found = clusters(texts)
    members = np.bincount(found[found >= 0])
    figures: Figures = {
        "near_clusters": int((members > 1).sum()),
        "near_records": int((found >= 0).sum()),
        "largest_cluster": int(members.max(initial=0)),
    }
    cluster = pl.DataFrame({"listing_id": names, "cluster": found})
    known = view.known.select("listing_id").join(
        cluster, on="listing_id", how="left", maintain_order="left"
    )
    here = known["cluster"].to_numpy()
    crossing, judged = _crossing(here, view.split.train, view.split.holdout)
    mixed = _disagreeing(here, view.labels)
    figures |= {
        "holdout_near_training": crossing,
        "holdout_near_training_share": round(crossing / judged, 4) if judged else None,
        "near_with_both_labels": mixed,
    }
    findings = []
    if crossing > SHARE_TOLD * judged:
        findings.append(finding("near_duplicates_across_split", crossing, judged))
    if mixed:
        findings.append(finding("near_duplicates_disagree", mixed, here.size))
    return figures, findings


def _texts(view: View) -> tuple[pl.Series, pl.Series]:
    """Return ids, and title and description in one, cut: only these chars are ever compared."""
    text = pl.concat_str(
        [pl.col(name).fill_null("").str.slice(0, TEXT_CHARS) for name in ("title", "description")],
        separator=" ",
    )
    frame = view.records.scan("listings").select("listing_id", text.alias("text")).collect()
    return frame["listing_id"], frame["text"]


def _crossing(cluster: I64, train: I64, holdout: I64) -> tuple[int, int]:
    """Return hold-out records in a cluster with a training record, and all hold-out records."""
    taught = np.unique(cluster[train])
    judged = cluster[holdout]
    return int((np.isin(judged, taught) & (judged >= 0)).sum()), int(judged.size)


def _disagreeing(cluster: I64, labels: NDArray[np.int8]) -> int:
    """Return labelled records in clusters that hold both labels."""
    inside = cluster >= 0
    if not inside.any():
        return 0
    size = int(cluster.max()) + 1
    positives = np.bincount(cluster[inside], labels[inside], size)
    totals = np.bincount(cluster[inside], minlength=size)
    mixed = (positives > 0) & (positives < totals)
    return int(totals[mixed].sum())
