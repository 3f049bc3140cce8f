"""Members of the real online shops, dealt to given numbers of labelled shops."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from participant.ingest import read_records
from participant.training.dataset import TrainingSet
from participant.training.matrix import to_csr
from shared.model.features.build import build_features
from shared.model.layout import ModelSpec
from simulations.shops import FILE, MAPPING
from simulations.studies.member_size.dealing import Deal, deal
from simulations.studies.member_size.member import StudyMember

SIZES = (50, 50, 50, 50, 200, 200, 200)
"""Eight hundred of 1,140 shops: members of 1,000 do not exist in this data beside any other."""

TEST_ROWS = 150
AS_OF = datetime(2023, 6, 1, tzinfo=UTC)
"""Stands for the moment of import where a shop has no time of its own."""


def read_shops(data: Path) -> pl.DataFrame:
    """Return the shops in the canonical schema, one a host.

    Raises:
        BadInput, NotFound: there is no such file, or it is another one.
    """
    frame, _ = read_records(data / FILE if data.is_dir() else data, "shops", MAPPING)
    return frame.filter(pl.col("label").is_not_null()).unique(
        "host", keep="first", maintain_order=True
    )


def shop_members(
    seed: int, spec: ModelSpec, shops: pl.DataFrame, *, sizes: tuple[int, ...] = SIZES
) -> list[StudyMember]:
    """Deal the shops to one member for each of ``sizes``.

    Each member has its own share of fraudulent shops, between a fifth and four fifths.

    Raises:
        BadInput: there are too few shops.
    """
    dealt = deal(
        (shops["label"] == 1).to_numpy(),
        sizes,
        shares=(0.2, 0.8),
        test_rows=TEST_ROWS,
        seed=seed,
    )
    return [
        _member(f"shop-owner-{number}", shops, one, spec) for number, one in enumerate(dealt, 1)
    ]


def _member(name: str, shops: pl.DataFrame, dealt: Deal, spec: ModelSpec) -> StudyMember:
    training = TrainingSet.from_records("shops", shops[dealt.hand], spec=spec, as_of=AS_OF)
    later = shops[dealt.test]
    moments = later["updated_at"].fill_null(AS_OF)
    batch = build_features(later, "shops", hash_bits=spec.hash_bits, as_of=moments)
    truth = later["label"].to_numpy().astype(np.int8)
    return StudyMember(name, dealt.hand.size, training, to_csr(batch, spec.rows), truth)
