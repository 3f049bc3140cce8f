"""Dealing labelled records to members of given sizes, each with its own share of positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import BadInput

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Deal:
    """One member's rows (int64, ascending): what it holds, and what tests it."""

    hand: Rows
    test: Rows


def deal(
    positive: npt.NDArray[np.bool_],
    sizes: tuple[int, ...],
    *,
    shares: tuple[float, float],
    test_rows: int,
    seed: int,
) -> list[Deal]:
    """Deal records to one member for each of ``sizes``.

    A record is held by one member at most. The records left over are the test: ``test_rows`` for
    each member, drawn at its own share, so that one may test two members but never one that
    somebody trained on.

    Args:
        positive: bool[n], the label of each record.
        sizes: records of each member.
        shares: least and greatest share of positives of a member, drawn evenly.
        test_rows: of each member; fewer where too few of a label are left.
        seed: of every draw.

    Raises:
        BadInput: there are too few records.
    """
    draws = np.random.default_rng(seed)
    mine = draws.uniform(*shares, len(sizes))
    piles = [list(draws.permutation(np.flatnonzero(positive == label))) for label in (0, 1)]
    hands = [_take(piles, size, share) for size, share in zip(sizes, mine, strict=True)]
    return [
        Deal(hand, _draw(piles, test_rows, share, draws))
        for hand, share in zip(hands, mine, strict=True)
    ]


def _counts(rows: int, share: float) -> tuple[int, int]:
    return rows - round(rows * share), round(rows * share)


def _take(piles: list[list[int]], size: int, share: float) -> Rows:
    counts = _counts(size, share)
    if any(len(pile) < count for pile, count in zip(piles, counts, strict=True)):
        raise BadInput("too few records for members of these sizes")
    hand = [pile.pop() for pile, count in zip(piles, counts, strict=True) for _ in range(count)]
    return np.sort(np.array(hand, dtype=np.int64))


def _draw(piles: list[list[int]], rows: int, share: float, draws: np.random.Generator) -> Rows:
    parts = [
        draws.choice(pile, min(count, len(pile)), replace=False)
        for pile, count in zip(piles, _counts(rows, share), strict=True)
    ]
    return np.sort(np.concatenate(parts).astype(np.int64))
