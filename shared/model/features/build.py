"""Canonical records to hashed, weighted tokens. Needs polars: for members only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.domain.schemas import TIME
from shared.domain.vocabulary import MAX_IMAGES
from shared.errors import BadInput
from shared.model.features.batch import FeatureBatch, Piece, assemble, concatenate
from shared.model.features.brand import match_brand
from shared.model.features.compact import compact_pieces
from shared.model.features.fold import Codes, fold_column, raw_column
from shared.model.features.history import History
from shared.model.features.signals import signal_pieces
from shared.model.features.space import (
    LISTING_CATEGORIES,
    LISTING_NUMBERS,
    TEXT_CAPS,
)
from shared.model.features.text import char_pieces, clip_rows, word_pieces
from shared.model.features.values import (
    category_piece,
    constant_piece,
    log_grid,
    number_pieces,
    ratio_grid,
)

RecordKind = Literal["listings", "shops"]
F64 = NDArray[np.float64]

CHUNK_ROWS = 4096
"""Records worked on at once: their code points and states stay in the processor's cache."""

_SECOND_LEVEL = frozenset({"co", "com", "net", "org", "gov", "ac", "edu", "or", "ne"})
"""Labels that belong to the public suffix below a country's domain (``co.uk``, ``com.au``)."""


def build_features(
    frame: pl.DataFrame,
    kind: RecordKind,
    *,
    hash_bits: int,
    as_of: datetime | pl.Series,
    history: History | None = None,
    compact: bool = False,
    trace: bool = False,
) -> FeatureBatch:
    """Return the tokens of canonical records.

    Args:
        frame: records in the canonical columns of ``kind``.
        kind: ``listings`` or ``shops``.
        hash_bits: log2 of the rows of the hashed space.
        as_of: the moment, or one moment a row, at which each record is judged; ages are counted
            to it and complaints after it do not exist.
        history: past listings and complaints; without it nobody has complained.
        compact: weigh features as the compact model has them, see
            :mod:`shared.model.features.compact`.
        trace: keep where each token came from, for explanations; at most one chunk of rows.

    Raises:
        BadInput: a column is missing, or signals are not JSON objects.
    """
    moments = _moments(frame, as_of)
    history = history or History.empty()
    if trace:
        return _chunk(frame, kind, hash_bits, moments, history, compact=compact, keep_texts=True)
    parts = [
        _chunk(rows, kind, hash_bits, times, history, compact=compact, keep_texts=False)
        for rows, times in _chunks(frame, moments)
    ]
    return concatenate(parts)


def host_words(host: str) -> str:
    """Return a host name without ``www`` and public suffix.

    The country's domain is no evidence against a shop, yet in collected data it often gives the
    label away; so no token may contain it.
    """
    labels = host.strip().strip(".").lower().split(".")
    labels = labels[1:] if labels[0] == "www" and len(labels) > 2 else labels
    labels = labels[:-1] if len(labels) > 1 else labels
    labels = labels[:-1] if len(labels) > 1 and labels[-1] in _SECOND_LEVEL else labels
    return ".".join(labels)


def _moments(frame: pl.DataFrame, as_of: datetime | pl.Series) -> pl.Series:
    if isinstance(as_of, pl.Series):
        return as_of.cast(TIME)
    return pl.Series("as_of", [as_of], dtype=TIME).new_from_index(0, frame.height)


def _chunks(frame: pl.DataFrame, moments: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    for start in range(0, max(frame.height, 1), CHUNK_ROWS):
        yield frame.slice(start, CHUNK_ROWS), moments.slice(start, CHUNK_ROWS)


def _chunk(
    frame: pl.DataFrame,
    kind: RecordKind,
    bits: int,
    moments: pl.Series,
    history: History,
    *,
    compact: bool,
    keep_texts: bool,
) -> FeatureBatch:
    texts: dict[str, Codes] = {}
    try:
        build = _listing_pieces if kind == "listings" else _shop_pieces
        pieces = build(frame, bits, moments, history, texts)
    except pl.exceptions.ColumnNotFoundError as error:
        raise BadInput(
            "the records lack a column of the canonical schema", detail=str(error)
        ) from error
    if compact:
        pieces = compact_pieces(pieces, frame.height)
    return assemble(pieces, frame.height, texts if keep_texts else None)


def _every_row(frame: pl.DataFrame) -> NDArray[np.int32]:
    return np.arange(frame.height, dtype=np.int32)


def _text_pieces(
    field: str, values: list[str | None], bits: int, texts: dict[str, Codes]
) -> tuple[list[Piece], list[str]]:
    """Return a text field's tokens and its folded texts; raw tokens only where folding acted."""
    cap = TEXT_CAPS[field]
    written = [(value or "")[: cap * 2] for value in values]
    folded = clip_rows(fold_column(written), cap)
    texts[field] = folded
    pieces = [*char_pieces(field, folded, bits), *word_pieces(field, folded, bits)]
    missing = np.array([not text.strip() for text in written], dtype=np.bool_)
    rows = np.arange(len(written), dtype=np.int32)
    pieces.append(constant_piece(f"{field}:null", f"{field}#null", rows[missing], bits))
    folded_texts = folded.texts()
    raw = clip_rows(raw_column(written), cap)
    changed = np.array([a != b for a, b in zip(raw.texts(), folded_texts, strict=True)])
    if changed.any():
        keep = changed[raw.rows]
        only = Codes(raw.codes[keep], raw.rows[keep], raw.count)
        texts[f"{field}~raw"] = only
        pieces += char_pieces(f"{field}~raw", only, bits)
        pieces += word_pieces(f"{field}~raw", only, bits)
    return pieces, folded_texts


def _floats(series: pl.Series) -> F64:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _days(since: pl.Series, moments: pl.Series) -> F64:
    """Return days from a time to the moment; NaN if unknown or after the moment."""
    seconds = _floats((moments - since.cast(TIME)).dt.total_seconds())
    return np.where(seconds >= 0, seconds / 86_400, np.nan)


def _listing_pieces(
    frame: pl.DataFrame,
    bits: int,
    moments: pl.Series,
    history: History,
    texts: dict[str, Codes],
) -> list[Piece]:
    rows = _every_row(frame)
    titles = frame["title"].to_list()
    pieces, folded_titles = _text_pieces("title", titles, bits, texts)
    for field in ("description", "seller_name"):
        pieces += _text_pieces(field, frame[field].to_list(), bits, texts)[0]
    for name in LISTING_CATEGORIES:
        pieces.append(category_piece(name, rows, frame[name].to_list(), bits))
    for name in LISTING_NUMBERS:
        pieces += number_pieces(name, rows, log_grid(_floats(frame[name])), bits)
    pieces += _derived_pieces(frame, rows, bits, moments, history)
    matches = [
        match_brand(title or "", folded, brand).kind
        for title, folded, brand in zip(titles, folded_titles, frame["brand"], strict=True)
    ]
    pieces.append(category_piece("brand_match", rows, matches, bits))
    pieces.append(_image_piece(frame["image_hashes"], bits))
    return pieces + signal_pieces(frame["signals"].to_list(), bits)


def _image_piece(hashes: pl.Series, bits: int) -> Piece:
    """Return one token an image: a picture seen with one fake is evidence wherever it returns."""
    lists = hashes.fill_null([]).list.head(MAX_IMAGES)
    counts = lists.list.len().to_numpy()
    rows = np.repeat(np.arange(len(lists), dtype=np.int32), counts)
    images = lists.explode(empty_as_null=False).to_list()
    piece = category_piece("image", rows, images, bits)
    weights = (1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)[rows]
    return Piece("image", rows, piece.ids, weights)


def _derived_pieces(
    frame: pl.DataFrame,
    rows: NDArray[np.int32],
    bits: int,
    moments: pl.Series,
    history: History,
) -> list[Piece]:
    list_price = _floats(frame["list_price"])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(list_price > 0, _floats(frame["price"]) / list_price, np.nan)
    pieces = number_pieces("price_ratio", rows, ratio_grid(ratio), bits)
    numbers = {
        "seller_age_days": _days(frame["seller_created_at"], moments),
        "image_count": _floats(frame["image_hashes"].list.len()),
        **history.counts(frame, moments),
    }
    for name, values in numbers.items():
        pieces += number_pieces(name, rows, log_grid(values), bits)
    return pieces


def _shop_pieces(
    frame: pl.DataFrame,
    bits: int,
    moments: pl.Series,
    history: History,  # noqa: ARG001 - nobody complains about a shop as a record yet
    texts: dict[str, Codes],
) -> list[Piece]:
    rows = _every_row(frame)
    hosts = [host_words(host or "") for host in frame["host"].to_list()]
    pieces, _ = _text_pieces("host", list(hosts), bits, texts)
    age = log_grid(_days(frame["created_at"], moments))
    pieces += number_pieces("shop_age_days", rows, age, bits)
    return pieces + signal_pieces(frame["signals"].to_list(), bits)
