"""Members of the real online shops, dealt to given numbers of labelled shops."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from participant.ingest import read_records
from participant.training.dataset import TrainingSet
from participant.training.matrix import to_csr
from shared.errors import BadInput
from shared.model.features.build import build_features
from shared.model.layout import ModelSpec
from simulations.shops import FILE, MAPPING
from simulations.studies.member_size.member import StudyMember

SIZES = (50, 50, 50, 50, 200, 200, 200)
"""Eight hundred of 1,140 shops: members of 1,000 do not exist in this data beside any other."""

TEST_ROWS = 150
AS_OF = datetime(2023, 6, 1, tzinfo=UTC)
"""Stands for the moment of import where a shop has no time of its own."""

Rows = npt.NDArray[np.int64]


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

    Each member has its own share of fraudulent shops, between a fifth and four fifths. A shop
    trains at one member at most. The shops left over are the test: 150 for each member, drawn at
    its own share, so that a shop may test two members but never one that trained on it.

    Raises:
        BadInput: there are too few shops.
    """
    draws = np.random.default_rng(seed)
    fraud = (shops["label"] == 1).to_numpy()
    shares = draws.uniform(0.2, 0.8, len(sizes))
    piles = {label: list(draws.permutation(np.flatnonzero(fraud == label))) for label in (0, 1)}
    hands = [_deal(piles, size, share) for size, share in zip(sizes, shares, strict=True)]
    tests = [_draw(piles, share, draws) for share in shares]
    return [
        _member(f"shop-owner-{number}", shops, hand, test, spec)
        for number, (hand, test) in enumerate(zip(hands, tests, strict=True), 1)
    ]


def _deal(piles: dict[int, list[int]], size: int, share: float) -> Rows:
    counts = {1: round(size * share), 0: size - round(size * share)}
    if any(len(piles[label]) < count for label, count in counts.items()):
        raise BadInput("too few shops for members of these sizes")
    hand = [piles[label].pop() for label, count in counts.items() for _ in range(count)]
    return np.sort(np.array(hand, dtype=np.int64))


def _draw(piles: dict[int, list[int]], share: float, draws: np.random.Generator) -> Rows:
    counts = {1: round(TEST_ROWS * share), 0: TEST_ROWS - round(TEST_ROWS * share)}
    parts = [
        draws.choice(piles[label], min(count, len(piles[label])), replace=False)
        for label, count in counts.items()
    ]
    return np.sort(np.concatenate(parts).astype(np.int64))


def _member(name: str, shops: pl.DataFrame, hand: Rows, test: Rows, spec: ModelSpec) -> StudyMember:
    training = TrainingSet.from_records("shops", shops[hand], spec=spec, as_of=AS_OF)
    later = shops[test]
    moments = later["updated_at"].fill_null(AS_OF)
    batch = build_features(later, "shops", hash_bits=spec.hash_bits, as_of=moments)
    truth = later["label"].to_numpy().astype(np.int8)
    return StudyMember(name, hand.size, training, to_csr(batch, spec.rows), truth)
