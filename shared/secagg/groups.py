"""Groups of the secure sum: who sums with whom, and how the groups' sums become one update.

A group has its own session and keeps the whole promise by itself. The order is a hash of a seed
that no single party chose (:mod:`shared.trust.grouping`), so colluders cannot gather in a group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.encoding import Writer
from shared.errors import BadInput
from shared.limits import MAX_GROUP, MIN_GROUP
from shared.secagg.tail import OpenedSum
from shared.secagg.terms import DOMAIN

MEAN = "mean"
MEDIAN = "median-of-groups"
ROBUST = (MEAN, MEDIAN)
MIN_MEDIAN_GROUPS = 5
"""Fewest groups for a median: two hostile ones of five still leave an honest middle."""

_SLICE = 1 << 16
"""Coordinates whose median is taken at a time: the sorted copy stays in the cache."""


def group_count(members: int, wanted: int | None = None, *, floor: int = MIN_GROUP) -> int:
    """Return in how many groups ``members`` are summed: 1 up to 64, else as few as will do.

    Five as soon as the floor allows, so that a median can be taken.

    Args:
        members: how many there are.
        wanted: this many groups and no other number.
        floor: smallest group allowed where there are several.

    Raises:
        BadInput: no such number of groups holds them within the bounds.
    """
    count = wanted or 1
    if wanted is None and members > MAX_GROUP:
        count = max(-(-members // MAX_GROUP), min(MIN_MEDIAN_GROUPS, members // floor))
    if count < 1 or -(-members // count) > MAX_GROUP or (count > 1 and members // count < floor):
        raise BadInput(
            f"{members} members do not make {count} groups of {floor} to {MAX_GROUP}",
            hint=f"name at most {MAX_GROUP} members, or wait until there are {2 * floor}",
        )
    return count


def quorum(groups: int) -> int:
    """Return the fewest groups whose sums make a round: half of them."""
    return -(-groups // 2)


def assign_groups(seed: bytes, indices: Iterable[int], count: int) -> tuple[tuple[int, ...], ...]:
    """Deal members out to groups in the order of SHA-256(seed, index).

    Args:
        seed: 32 bytes.
        indices: roster indices, in any order.
        count: number of groups.

    Returns:
        One ascending tuple a group; sizes differ by at most one.
    """
    domain = Writer(DOMAIN + "group-order").fixed(seed, 32).done()
    order = sorted(indices, key=lambda i: hashlib.sha256(domain + i.to_bytes(4, "big")).digest())
    return tuple(tuple(sorted(order[place::count])) for place in range(count))


def combine(opened: Iterable[OpenedSum], robust: str) -> OpenedSum:
    """Return the whole round's sum from its groups' sums.

    ``mean`` weighs every member alike, whatever its group. ``median-of-groups`` takes, coordinate
    by coordinate, the median of the groups' means (Yin et al., ICML 2018, arXiv:1803.01498): a
    hostile member spoils its own group, and fewer than half of the groups move no coordinate
    beyond the honest groups' range. Evaluation counts are added up in both cases.

    Args:
        opened: the groups' checked sums; consumed one by one.
        robust: one of :data:`ROBUST`.

    Raises:
        BadInput: there is nothing to combine, or no such rule.
    """
    if robust not in ROBUST:
        raise BadInput(f"there is no way to combine groups called {robust!r}")
    total: OpenedSum | None = None
    means: list[NDArray[np.float32]] = []
    weighed: NDArray[np.float64] | float = 0.0
    for item in opened:
        if robust == MEDIAN:
            means.append(item.mean)
        else:
            weighed = weighed + np.multiply(item.mean, item.weight_sum, dtype=np.float64)
        total = item if total is None else _add(total, item)
    if total is None:
        raise BadInput("a round without a group has no sum")
    if robust == MEDIAN:
        return replace(total, mean=_median(means))
    return replace(total, mean=np.asarray(weighed / total.weight_sum, dtype=np.float32))


def _add(total: OpenedSum, item: OpenedSum) -> OpenedSum:
    """Return everything of two sums added up, but for the mean."""
    return OpenedSum(
        total.mean,
        total.weight_sum + item.weight_sum,
        total.survivors + item.survivors,
        _plus(total.loss_sum, item.loss_sum),
        _plus_counts(total.positives, item.positives),
        _plus_counts(total.negatives, item.negatives),
    )


def _plus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right


def _plus_counts(
    left: NDArray[np.int64] | None, right: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    return None if left is None or right is None else left + right


def _median(means: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    result = np.empty(means[0].size, dtype=np.float32)
    for start in range(0, result.size, _SLICE):
        part = np.stack([mean[start : start + _SLICE] for mean in means])
        result[start : start + _SLICE] = np.median(part, axis=0)
    return result
