"""Part ``leakage``: values that tell the label too well, or only because it was already known.

What can be seen in the records themselves: a value that only judged records have; one that only
snapshots taken after the verdict have; a time that is never before the verdict; a column of the
verdict among the signals; a null pattern that equals the label. A value that was quietly changed
after a verdict, without any of these signs, cannot be seen: drop such columns in the mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.contract.columns import F64, Bools, Values, presence, values
from participant.contract.report import Figures, Finding, Part, finding
from participant.contract.rules import (
    AUC_EQUAL,
    AUC_TOLD,
    HALF,
    MIN_OF_A_CLASS,
    MIN_SURE,
    NEARLY_ALL,
    NEARLY_NONE,
    SAMPLE_ROWS,
)
from participant.contract.view import View
from participant.training.known import HORIZONS_DAYS
from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import VERDICTS
from shared.model.metrics import roc_auc

Labels = NDArray[np.int8]

MAX_SHARE = 0.7
"""Records among which a pattern is looked for make up at most this share: were they nearly all,
twenty values would lie among them by chance."""

_ANSWERS = {"decided_at", "reversed_at", "verdict", "label"}
_ANSWERS |= {"counterfeit", "fake", "fraud", "fraudulent", "is_counterfeit", "is_fake", "is_fraud"}

_STRONGEST = 5
"""Features told of in the figures."""


def check_leakage(view: View) -> Part:
    """Screen every single feature of the labelled records, and where its values come from."""
    if view.known.is_empty():
        return Part(figures={})
    found = [*_late_values(view), *_snapshots(view)]
    areas: dict[str, float] = {}
    step = -(-view.known.height // SAMPLE_ROWS)
    sample = view.known.gather_every(step)
    labels = sample["label"].to_numpy().astype(np.int8)
    for column in values(view, sample):
        found += _refused(column, sample["labelled_at"])
        areas |= _areas(column, labels)
    if view.table == "listings":
        areas["title (one word of it)"] = _best_word(sample["title"], labels)
    sure = min(int(labels.sum()), int((labels == 0).sum())) >= MIN_SURE
    found += [
        finding(
            "equals_label" if sure and area >= AUC_EQUAL else "single_feature",
            column=name,
            value=round(area, 4),
        )
        for name, area in areas.items()
        if area > AUC_TOLD
    ]
    strongest = sorted(areas, key=lambda name: (-areas[name], name))[:_STRONGEST]
    figures: Figures = {
        "sample": sample.height,
        "features": len(areas),
        "strongest": {name: round(areas[name], 4) for name in strongest},
    }
    return Part(figures=figures, findings=tuple(found))


def _late_values(view: View) -> Iterator[Finding]:
    """Compare where a value is present with who was judged, when, and how."""
    judged, positive, late = _groups(view)
    labelled = positive | _among(view, view.known.filter(pl.col("label") == 0))
    for name, present in presence(view):
        count = int(present.sum())
        if _only_in(present, judged) or (late.any() and _only_in(present & judged, late, judged)):
            yield finding("known_after_verdict", count, present.size, column=name)
        elif _tells(present[labelled], positive[labelled]):
            yield finding("nulls_tell_label", count, present.size, column=name)


def _groups(view: View) -> tuple[Bools, Bools, Bools]:
    """Return bool[records]: has a verdict or label; is positive; was updated after its verdict."""
    positive = _among(view, view.known.filter(pl.col("label") == 1))
    if view.table == "shops":
        judged = view.frame["label"].is_not_null().to_numpy()
        return judged, positive, np.zeros_like(judged)
    past = view.verdicts.filter(pl.col("decided_at") <= view.now)
    late = view.known.filter(pl.col("updated_at") > pl.col("labelled_at"))
    return _among(view, past), positive, _among(view, late)


def _among(view: View, frame: pl.DataFrame) -> Bools:
    ids = frame[view.id_column].unique().implode()
    return view.frame.select(pl.col(view.id_column).is_in(ids)).to_series().to_numpy()


def _only_in(present: Bools, group: Bools, within: Bools | None = None) -> bool:
    """Tell whether the values lie in the group alone, beyond what chance could do."""
    group = group if within is None else group & within
    total = present.size if within is None else int(within.sum())
    count = int(present.sum())
    return (
        count >= MIN_SURE
        and total - int(group.sum()) >= MIN_SURE
        and int(group.sum()) <= MAX_SHARE * total
        and int((present & group).sum()) >= NEARLY_ALL * count
    )


def _tells(present: Bools, positive: Bools) -> bool:
    if min(positive.sum(), (~positive).sum()) < MIN_SURE:
        return False
    shares = sorted((float(present[positive].mean()), float(present[~positive].mean())))
    return shares[0] <= NEARLY_NONE and shares[1] >= NEARLY_ALL


def _snapshots(view: View) -> Iterator[Finding]:
    late = int((view.known["updated_at"] > view.known["labelled_at"]).sum())
    if late:
        yield finding("changed_after_verdict", late, view.known.height)
    if view.table == "listings":
        ages = (view.known["judged_at"] - view.known["created_at"]).drop_nulls()
        old = int((ages > timedelta(days=max(HORIZONS_DAYS))).sum())
        if old > HALF * len(ages):
            yield finding("seen_late", old, len(ages))


def _refused(column: Values, labelled_at: pl.Series) -> Iterator[Finding]:
    plain = re.sub(r"[^a-z]+", "_", column.name.removeprefix("signals.").lower()).strip("_")
    words = set(column.words.drop_nulls().str.to_lowercase().unique().head(len(VERDICTS) + 1))
    if plain in _ANSWERS or (words and words <= set(VERDICTS) and "counterfeit" in words):
        yield finding("answer_as_signal", column=column.name)
        return
    times = _as_times(column)
    both = times.is_not_null() & labelled_at.is_not_null()
    count = int(both.sum())
    # Dates without a time of day are compared by the day.
    after = times.filter(both).dt.date() >= labelled_at.filter(both).dt.date()
    if count >= MIN_SURE and int(after.sum()) >= NEARLY_ALL * count:
        yield finding("known_after_verdict", int(after.sum()), count, column=column.name)


def _as_times(column: Values) -> pl.Series:
    """Return the times a column holds: dates in texts, or numbers that are seconds or ms."""
    none = pl.Series([None], dtype=_TIME).new_from_index(0, len(column.words))
    if column.words.str.contains(r"^\d{4}-\d\d-\d\d").any():
        day = column.words.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        return day.cast(_TIME)
    known = column.numbers[~np.isnan(column.numbers)]
    for scale in (1, 1_000):
        if known.size and known.min() >= _YEAR_2001 * scale and known.max() < _YEAR_2100 * scale:
            micros = np.nan_to_num(column.numbers / scale) * 1e6
            times = pl.Series(micros.astype(np.int64)).cast(_TIME)
            return pl.select(
                pl.when(pl.Series(np.isnan(column.numbers))).then(None).otherwise(times)
            ).to_series()
    return none


_TIME = SCHEMAS["listings"]["created_at"]
_YEAR_2001, _YEAR_2100 = 1_000_000_000, 4_102_444_800


def _areas(column: Values, labels: Labels) -> dict[str, float]:
    """Return areas under the curve by name: of the value, and of its being there at all."""
    words = column.words.is_not_null().to_numpy()
    numbers = ~np.isnan(column.numbers)
    areas = {column.name: max(_number_area(column.numbers, labels), _word_area(column, labels))}
    there = (words | numbers).astype(np.float64)
    areas[f"{column.name} (empty or not)"] = _area(there, labels)
    return {name: area for name, area in areas.items() if not np.isnan(area)}


def _number_area(numbers: F64, labels: Labels) -> float:
    known = ~np.isnan(numbers)
    return _area(numbers[known], labels[known])


def _area(scores: F64, labels: Labels) -> float:
    """Return the area under the ROC curve, whichever way round; 0.5 where it cannot be told."""
    positives = int(labels.sum())
    if min(positives, labels.size - positives) < MIN_OF_A_CLASS:
        return 0.5
    area = roc_auc(labels, scores)
    return max(area, 1 - area)


def _word_area(column: Values, labels: Labels) -> float:
    """Return the area of a word's share of positives, as the other half of the rows shows it.

    In its own half, a word that occurs once would always tell its row's label.
    """
    known = column.words.is_not_null().to_numpy()
    if not known.any():
        return 0.5
    here = labels[known]
    codes = column.words.drop_nulls().rank("dense").to_numpy().astype(np.int64)
    # Drawn, since every other row may be of one kind in an export.
    half = np.random.Generator(np.random.Philox(1)).integers(0, 2, here.size)
    scores = np.empty(here.size)
    for side in (0, 1):
        other = half != side
        totals = np.bincount(codes[other], minlength=codes.max() + 1)
        positives = np.bincount(codes[other], here[other], codes.max() + 1)
        prior = here[other].mean() if other.any() else 0.5
        share = (positives + prior) / (totals + 1)
        scores[~other] = share[codes[~other]]
    return _area(scores, here)


def _best_word(titles: pl.Series, labels: Labels) -> float:
    """Return the area of the single most telling word of the titles; which one stays unsaid."""
    positives = int(labels.sum())
    negatives = labels.size - positives
    if min(positives, negatives) < MIN_OF_A_CLASS:
        return 0.5
    words = (
        pl.DataFrame({"word": titles, "label": labels})
        .with_columns(pl.col("word").str.to_lowercase().str.split(" ").list.unique())
        .explode("word")
        .drop_nulls("word")
    )
    shares = words.group_by("word").agg(
        (pl.col("label").sum() / positives - (pl.len() - pl.col("label").sum()) / negatives)
        .abs()
        .alias("gap")
    )
    return 0.5 + float(shares["gap"].max() or 0.0) / 2  # type: ignore[arg-type]
