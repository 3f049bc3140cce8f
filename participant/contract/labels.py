"""Parts ``labels`` and ``split``: where labels come from, how old, how many, and who judges."""

from __future__ import annotations

import numpy as np
import polars as pl

from participant.contract.report import Figures, Finding, Part, finding
from participant.contract.rules import MIN_HOLDOUT_OF_A_CLASS, OLD_DAYS, SHARE_TOLD
from participant.contract.view import View
from participant.training.split import NO_TIME
from shared.domain.labels import CONFIRMING

_PARTS = ("train", "calibration", "holdout")


def check_labels(view: View) -> Part:
    """Check the sources, ages, agreement and balance of the labels."""
    known = view.known
    if known.is_empty():
        return Part(figures={"labelled": 0}, findings=(finding("no_labels"),))
    figures: Figures = {
        "labelled": known.height,
        "unlabelled": view.frame.height - known.height,
        "classes": dict(known["class"].value_counts(name="n").sort("class").iter_rows()),
        "positive_share": round(float(view.labels.mean()), 4),
        "mean_confidence": round(float(known["confidence"].to_numpy().mean()), 4),
    }
    findings: list[Finding] = []
    if view.table == "listings":
        findings += _sources(view, figures)
        findings += _ages(view, figures)
        findings += _contradictions(view, figures)
    return Part(figures=figures, findings=tuple(findings))


def _sources(view: View, figures: Figures) -> list[Finding]:
    """Count what each labelled listing's label rests on: its deciding verdict, or a complaint."""
    decided = view.verdicts.filter(pl.col("verdict") != "unsure").select(
        "listing_id", "source", "decided_at", "reversed_at"
    )
    moment = pl.coalesce(
        pl.when(pl.col("class") == "reversed").then("reversed_at"), "decided_at"
    )  # a reversed label dates from its reversal
    matches = (
        view.known.select("listing_id", "class", "labelled_at")
        .join(decided, on="listing_id", how="left")
        .filter(moment == pl.col("labelled_at"))
        .unique("listing_id", keep="last", maintain_order=True)
    )
    counts = dict(matches["source"].value_counts(name="n").sort("source").iter_rows())
    confirmed = view.known.height - matches.height
    if confirmed:
        counts[f"complaint ({' or '.join(CONFIRMING)})"] = confirmed
    figures["sources"] = counts
    ruled = counts.get("rule", 0)
    return [finding("labels_by_rule", ruled, view.known.height)] * (2 * ruled > view.known.height)


def _ages(view: View, figures: Figures) -> list[Finding]:
    days = (view.now - view.known["labelled_at"]).dt.total_days()
    old = int((days > OLD_DAYS).sum())
    figures["label_age_days"] = {
        "median": _whole(days.median()),
        "oldest": _whole(days.max()),
        "newest": _whole(days.min()),
    }
    return [finding("old_labels", old, view.known.height)] * (2 * old > view.known.height)


def _whole(days: object) -> int | None:
    return None if days is None else int(days)  # type: ignore[call-overload]


def _contradictions(view: View, figures: Figures) -> list[Finding]:
    """Count listings that stand both as counterfeit and as something else."""
    standing = view.verdicts.filter(
        (pl.col("verdict") != "unsure")
        & (pl.col("decided_at") <= view.now)
        & (pl.col("reversed_at").is_null() | (pl.col("reversed_at") > view.now))
    )
    fakes = (pl.col("verdict") == "counterfeit").mean()
    shares = standing.group_by("listing_id").agg(fakes.alias("fakes"))["fakes"]
    torn = int(((shares > 0) & (shares < 1)).sum())
    figures["contradicting"] = torn
    return [finding("contradicting_verdicts", torn, len(shares))] * (
        torn > SHARE_TOLD * len(shares)
    )


def check_split(view: View) -> Part:
    """Check that seller and time keep the hold-out apart, and that it can judge."""
    if view.known.is_empty():
        return Part(figures={})
    counts = {
        name: {
            "positive": int(view.labels[getattr(view.split, name)].sum()),
            "rows": int(getattr(view.split, name).size),
        }
        for name in _PARTS
    }
    findings = [*_balance(view), *_apart(view)]
    timeless = int((view.times == NO_TIME).sum())
    if view.table == "listings" and timeless:
        findings.append(finding("no_time", timeless, view.known.height, column="created_at"))
    by = "seller" if view.table == "listings" else "host"
    figures: Figures = {"by": [by, "time"] if _timed(view) else [by], **counts}
    return Part(figures=figures, findings=tuple(findings))


def _timed(view: View) -> bool:
    return not (view.times == NO_TIME).any() and np.unique(view.times).size > 1


def _balance(view: View) -> list[Finding]:
    train, holdout = view.labels[view.split.train], view.labels[view.split.holdout]
    findings = []
    if train.size and train.min() == train.max():
        findings.append(finding("one_class", train.size, train.size))
    rarer = min(int(holdout.sum()), int(holdout.size - holdout.sum()))
    if rarer < MIN_HOLDOUT_OF_A_CLASS:
        findings.append(finding("small_holdout", rarer, int(holdout.size)))
    return findings


def _apart(view: View) -> list[Finding]:
    """Prove of these very records what the split promises of any."""
    train, holdout = view.split.train, view.split.holdout
    taught = {view.groups[at] for at in train}
    shared = sum(view.groups[at] in taught for at in holdout)
    late = 0
    if _timed(view) and train.size and holdout.size:
        late = int((view.times[train] >= view.times[holdout].min()).sum())
    return [finding("split_not_apart", shared + late, int(holdout.size))] * bool(shared + late)
