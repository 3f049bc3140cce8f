from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from participant.ingest.checks import check
from participant.ingest.failures import Failures
from shared.domain import vocabulary as words
from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import Kind
from tests.support.store import NOON, listings, shops


def reasons(kind: Kind, frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    failures = Failures(frame.height)
    check(kind, frame.cast(dict(SCHEMAS[kind])), failures)
    found = failures.rejects(np.arange(1, frame.height + 1))
    assert failures.passed.to_list().count(False) == len(found)
    return [(reject.row, reject.code, reject.column) for reject in found]


def test_good_records_pass() -> None:
    assert reasons("listings", listings(["a", "b"])) == []
    assert reasons("shops", shops(["a"], label=None)) == []


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("listing_id", None, "missing_value"),
        ("listing_id", "x" * (words.MAX_ID + 1), "too_long"),
        ("title", "é" * (words.MAX_TITLE + 1), "too_long"),
        ("price", -0.01, "negative"),
        ("price", words.MAX_PRICE * 2, "too_large"),
        ("list_price", -1.0, "negative"),
        ("quantity", -1, "negative"),
        ("seller_rating", -1.0, "negative"),
        ("currency", "eur", "bad_currency"),
        ("currency", "EURO", "bad_currency"),
        ("created_at", datetime(1969, 12, 31, tzinfo=UTC), "bad_date"),
        ("created_at", datetime(2200, 1, 1, tzinfo=UTC), "bad_date"),
        ("image_hashes", ["00"] * (words.MAX_IMAGES + 1), "too_many"),
        ("signals", "[1]", "bad_signals"),
    ],
)
def test_one_bad_value_fails_its_row_only(column: str, value: object, code: str) -> None:
    frame = listings(["a", "b", "c"])
    dtype = SCHEMAS["listings"][column]
    worse = pl.Series(column, [frame[column][0], value, frame[column][2]], dtype=dtype)
    assert reasons("listings", frame.with_columns(worse)) == [(2, code, column)]


def test_limits_themselves_are_allowed() -> None:
    frame = listings(["x" * words.MAX_ID]).with_columns(
        title=pl.lit("é" * words.MAX_TITLE),
        price=pl.lit(words.MAX_PRICE),
        quantity=pl.lit(0, dtype=pl.Int64),
    )
    assert reasons("listings", frame) == []


def test_the_first_reason_is_told() -> None:
    frame = listings(["a"]).with_columns(price=pl.lit(-1.0), currency=pl.lit("x"))
    assert reasons("listings", frame) == [(1, "negative", "price")]


def test_closed_vocabularies() -> None:
    rows = [
        ("L1", "counterfeit", "analyst", NOON, None),
        ("L1", "fake", "analyst", NOON, None),
        ("L1", "authentic", "me", NOON, None),
        ("L1", "authentic", "rule", None, None),
    ]
    frame = pl.DataFrame(rows, schema=SCHEMAS["verdicts"], orient="row")
    assert reasons("verdicts", frame) == [
        (2, "bad_value", "verdict"),
        (3, "bad_value", "source"),
        (4, "missing_value", "decided_at"),
    ]
    assert reasons("shops", shops(["a"], label=2)) == [(1, "bad_value", "label")]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("{}", True),
        (' { "a" : -1.5e3 , "b":null,"c":"x" } ', True),
        ('{"a":"\\u0041\\""}', True),
        ('{"a":true}', False),
        ('{"a":[1]}', False),
        ('{"a":{"b":1}}', False),
        ('{"a":1,}', False),
        ('{"a":01}', False),
        ('{"a":1}}', False),
        ('{"a":1e999}', False),
        ('{"a":NaN}', False),
        (f'{{"a":{"9" * 400}}}', False),
        ('{"a":"\n"}', False),
        ('{"a":1}\x0b', False),
        ("1", False),
        ("{" * 100_000, False),
        ("{" + ",".join(f'"{n}":1' for n in range(words.MAX_SIGNALS)) + "}", True),
        ("{" + ",".join(f'"{n}":1' for n in range(words.MAX_SIGNALS + 1)) + "}", False),
    ],
)
def test_signals_are_flat_json_objects(text: str, *, good: bool) -> None:
    frame = shops(["a", "b"]).with_columns(signals=pl.Series([None, text]))
    assert reasons("shops", frame) == ([] if good else [(2, "bad_signals", "signals")])
