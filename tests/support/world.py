"""A plain reference classifier for the synthetic world, independent of the project's own model."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve

from simulations.world import World, split, training_records

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_FOLD = str.maketrans("аеосрхіАКМТНОС", "aeocpxiAKMTHOC")
NUMERIC_SIGNALS = ("orders_7d", "photos", "return_rate", "seller_listings", "ship_days")
CATEGORICAL_SIGNALS = ("condition", "payee", "payment")
CATEGORICAL = ("marketplace", "brand", "language", "category", "ship_from")


def fold(text: str) -> str:
    """Undo the cheap disguises: compatibility forms, case, look-alikes, zero-width characters."""
    return unicodedata.normalize("NFKC", text).translate(_FOLD).replace("\u200b", "").lower()


def numeric_columns(listings: pl.DataFrame) -> dict[str, Floats]:
    """Return every number a listing carries, by name; missing values are NaN."""
    signals = [json.loads(text) for text in listings["signals"]]
    created = listings["created_at"]
    days = (created - listings["seller_created_at"]).dt.total_seconds() / 86400
    found = {
        "price": listings["price"],
        "list_price": listings["list_price"],
        "price_ratio": listings["price"] / listings["list_price"],
        "quantity": listings["quantity"],
        "seller_age": days,
        "seller_rating": listings["seller_rating"],
        "images": listings["image_hashes"].list.len(),
        "title_length": listings["title"].str.len_chars(),
        "description_length": listings["description"].str.len_chars(),
        "digits_in_title": listings["title"].str.count_matches(r"\d"),
        "hour": created.dt.hour(),
        "weekday": created.dt.weekday(),
        **{n: pl.Series([s.get(n) for s in signals], dtype=pl.Float64) for n in NUMERIC_SIGNALS},
    }
    return {n: column.cast(pl.Float64).fill_null(np.nan).to_numpy() for n, column in found.items()}


def categorical_columns(listings: pl.DataFrame) -> dict[str, list[str]]:
    """Return every word-valued column and signal; missing values are the text ``None``."""
    signals = [json.loads(text) for text in listings["signals"]]
    found = {name: [str(value) for value in listings[name]] for name in CATEGORICAL}
    return found | {n: [str(s.get(n)) for s in signals] for n in CATEGORICAL_SIGNALS}


def _tabular(listings: pl.DataFrame) -> sparse.csr_matrix:
    tokens: list[dict[str, float]] = [{} for _ in range(listings.height)]
    for name, values in numeric_columns(listings).items():
        grid = np.sign(values) * np.log1p(np.abs(values) / 1e-3) / 0.5
        for row, place in zip(tokens, grid, strict=True):
            if np.isnan(place):
                row[f"{name}=null"] = 1.0
                continue
            low = int(np.floor(place))
            row[f"{name}#{low}"] = 1.0 - (place - low)
            row[f"{name}#{low + 1}"] = place - low
    for name, words in categorical_columns(listings).items():
        for row, word in zip(tokens, words, strict=True):
            row[f"{name}={word}"] = 1.0
    return FeatureHasher(2**16, alternate_sign=False).transform(tokens)


def _text(listings: pl.DataFrame) -> sparse.csr_matrix:
    blocks = []
    for name in ("title", "description"):
        raw = listings[name].to_list()
        folded = [fold(text) for text in raw]
        grams = HashingVectorizer(
            analyzer="char", ngram_range=(2, 4), n_features=2**17, alternate_sign=False
        )
        words = HashingVectorizer(ngram_range=(1, 2), n_features=2**16, alternate_sign=False)
        blocks += [grams.transform(folded), words.transform(folded)]
        differs = [[float(f != text.lower())] for f, text in zip(folded, raw, strict=True)]
        blocks.append(sparse.csr_matrix(np.array(differs)))
    return sparse.hstack(blocks).tocsr()


@dataclass(frozen=True)
class Table:
    """One member's features and labels, with row masks."""

    text: sparse.csr_matrix
    tabular: sparse.csr_matrix
    truth: Bools
    labelled: Bools
    label: Bools
    train: Bools
    test: Bools

    def features(self, which: str) -> sparse.csr_matrix:
        """Return ``text``, ``tabular`` or ``all`` columns."""
        if which == "all":
            return sparse.hstack([self.text, self.tabular]).tocsr()
        return self.text if which == "text" else self.tabular


def table(world: World, member: str) -> Table:
    """Return the features of all listings; labels are the verdicts known when training begins."""
    own, masks = world.members[member], split(world, member)
    verdicts = training_records(world, member)["verdicts"]
    joined = own.listings.select("listing_id").join(
        verdicts.filter(pl.col("verdict") != "unsure"), on="listing_id", how="left",
        maintain_order="left",
    )  # fmt: skip
    accused = (joined["verdict"] == "counterfeit") & joined["reversed_at"].is_null()
    return Table(
        text=_text(own.listings),
        tabular=_tabular(own.listings),
        truth=own.truth["counterfeit"].to_numpy(),
        labelled=joined["verdict"].is_not_null().to_numpy() & masks.train,
        label=accused.fill_null(False).to_numpy(),
        train=masks.train,
        test=masks.test,
    )


def fit(tables: list[Table], which: str = "all", c: float = 3.0) -> LogisticRegression:
    """Fit a logistic regression on the labelled training rows of ``tables``."""
    x = sparse.vstack([t.features(which)[t.labelled] for t in tables])
    y = np.concatenate([t.label[t.labelled] for t in tables])
    return LogisticRegression(C=c, solver="liblinear", tol=1e-3, random_state=0).fit(x, y)


def scores(model: LogisticRegression, one: Table, which: str = "all") -> Floats:
    """Return the score of every listing of ``one``."""
    return model.decision_function(one.features(which))


def recall_at_precision(truth: Bools, score: Floats, floor: float) -> float:
    """Return the best recall among thresholds whose precision is at least ``floor``."""
    precision, recall, _ = precision_recall_curve(truth, score)
    return float(recall[precision >= floor].max(initial=0.0))


def pr_auc(truth: Bools, score: Floats) -> float:
    """Return average precision."""
    return float(average_precision_score(truth, score))
