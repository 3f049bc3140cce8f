"""Which records train, which calibrate, which judge: apart by seller and by time.

A cut in time leaves the latest records for judging. Some sellers, chosen by a hash of their id,
never train: before the cut their records calibrate, after it they judge, together with those of
sellers first seen after the cut. What sellers who trained did after the cut is left out, because
a model that has seen their other listings would be judged on its memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

NO_TIME = np.int64(-1)
"""Stands for an unknown time."""

_KEY = b"touchstone/split/v1"


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """Shares of the split.

    Attributes:
        holdout: share of the latest records that only judge (with unknown times: of sellers).
        calibration: share of sellers that calibrate.
    """

    holdout: float = 0.2
    calibration: float = 0.2

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if not (0 < self.holdout < 1 and 0 < self.calibration < 1):
            raise ValueError("shares lie between 0 and 1")
        if self.holdout + self.calibration >= 1:
            raise ValueError("the shares leave nothing to train on")


@dataclass(frozen=True, slots=True)
class Split:
    """Positions (int64, ascending) of the records of each part; disjoint."""

    train: I64
    calibration: I64
    holdout: I64


def position(group: str) -> float:
    """Return where a seller lies in [0, 1), the same on every machine and in every run."""
    data = hashlib.blake2b(group.encode(), digest_size=8, key=_KEY).digest()
    return int.from_bytes(data, "big") / 2.0**64


def split_records(groups: list[str], times: I64, policy: SplitPolicy | None = None) -> Split:
    """Assign each record to a part, or to none.

    Args:
        groups: the seller of each record (the record's own id where there is no seller).
        times: int64[n], seconds since 1970 of each record, :data:`NO_TIME` if unknown. With any
            unknown time the split is by seller alone.
        policy: the shares.
    """
    policy = policy or SplitPolicy()
    names, codes = np.unique(np.array(groups, dtype=object), return_inverse=True)
    places = np.array([position(str(name)) for name in names])[codes]
    if times.size == 0 or (times == NO_TIME).any() or times.min() == times.max():
        judging = places < policy.holdout
        calibrating = ~judging & (places < policy.holdout + policy.calibration)
        return _split(~judging & ~calibrating, calibrating, judging)
    late = times >= np.quantile(times, 1 - policy.holdout, method="higher")
    first = np.full(names.size, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, times)
    new = first[codes] >= times[late].min()
    reserved = places < policy.calibration
    return _split(~late & ~reserved, ~late & reserved, late & (reserved | new))


def _split(
    train: NDArray[np.bool_], calibration: NDArray[np.bool_], holdout: NDArray[np.bool_]
) -> Split:
    return Split(np.flatnonzero(train), np.flatnonzero(calibration), np.flatnonzero(holdout))
