"""The unit of privacy: another record changes nobody's features, label or place in the split."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from participant.training.dataset import TrainingSet
from shared.model.features.batch import Piece
from shared.model.features.compact import compact_pieces
from shared.model.features.space import COMPACT_LENGTH, COMPACT_RAW, COMPACT_SCALE
from shared.model.layout import ModelSpec
from tests.support.model import NOW, fake, listing, records


def compact(listings: list[dict], complaints: list[dict], verdicts: list[dict]) -> TrainingSet:
    return TrainingSet.from_records(
        "listings",
        records("listings", *listings),
        spec=ModelSpec.compact(),
        as_of=NOW,
        complaints=records("complaints", *complaints),
        verdicts=records("verdicts", *verdicts),
    )


def test_a_further_record_with_complaints_leaves_all_others_as_they_are() -> None:
    sellers = [f"s{number % 5}" for number in range(30)]
    base = [
        (fake if number % 3 == 0 else listing)(
            number, seller_id=seller, created_at=NOW - timedelta(days=100 - number)
        )
        for number, seller in enumerate(sellers)
    ]
    verdicts = [
        {
            "listing_id": row["listing_id"],
            "verdict": "counterfeit" if number % 3 == 0 else "authentic",
            "source": "analyst",
            "decided_at": NOW - timedelta(days=1),
        }
        for number, row in enumerate(base)
    ]
    last = base[-1]["listing_id"]
    complaints = [
        {
            "complaint_id": f"c{number}",
            "listing_id": last,
            "source": "buyer",
            "claim": "fake",
            "created_at": NOW - timedelta(days=2),
        }
        for number in range(4)
    ]
    more = compact(base, complaints, verdicts)
    less = compact(base[:-1], [], verdicts[:-1])
    count = less.rows
    assert more.rows == count + 1
    assert (more.matrix[:count] != less.matrix).nnz == 0
    np.testing.assert_array_equal(more.labels[:count], less.labels)
    for part in ("train", "calibration", "holdout"):
        mine = getattr(more.split, part)
        np.testing.assert_array_equal(mine[mine < count], getattr(less.split, part))


def test_text_as_written_weighs_half_of_what_its_field_does() -> None:
    one = np.ones(1, dtype=np.float32)
    pieces = [
        Piece(name, np.zeros(1, np.int32), np.full(1, place, np.int32), one)
        for place, name in enumerate(("title:char", "title~raw:char", "description:word"))
    ]
    title, raw, description = (float(piece.weights[0]) for piece in compact_pieces(pieces, 1))
    assert raw == pytest.approx(COMPACT_RAW * title)
    assert description == pytest.approx(COMPACT_SCALE["description"] * title)
    assert np.hypot(np.hypot(title, raw), description) == pytest.approx(COMPACT_LENGTH)


def test_every_record_has_the_same_length() -> None:
    rows = [listing(number) for number in range(6)]
    verdicts = [
        {"listing_id": r["listing_id"], "verdict": "authentic", "source": "analyst",
         "decided_at": NOW - timedelta(days=1)}
        for r in rows
    ]  # fmt: skip
    matrix = compact(rows, [], verdicts).matrix
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    assert pl.Series(lengths / COMPACT_LENGTH).is_between(0.85, 1.3).all()
