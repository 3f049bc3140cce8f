"""What buyers had complained about by a given moment: counts that never see the future.

Only buyers' complaints count. Analysts', customs' and test purchases' complaints are how labels
are made, and an appeal is the seller's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.domain.schemas import empty_frame

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Events:
    """Times of events of many subjects, sorted by subject and then by time."""

    subjects: dict[str, int]
    keys: NDArray[np.int64]

    @classmethod
    def build(cls, subjects: pl.Series, times: pl.Series) -> _Events:
        names = subjects.unique().drop_nulls().sort().to_list()
        index = {name: position for position, name in enumerate(names)}
        known = subjects.is_not_null() & times.is_not_null()
        codes = np.array([index[name] for name in subjects.filter(known)], dtype=np.int64)
        keys = np.sort(_key(codes, _seconds(times.filter(known))))
        return cls(index, keys)

    def count(self, subjects: list[str | None], seconds: NDArray[np.int64]) -> F64:
        """Return float64[m]: events of each subject up to and including each moment."""
        missing = -1
        codes = np.array(
            [missing if name is None else self.subjects.get(name, missing) for name in subjects],
            dtype=np.int64,
        )
        until = np.searchsorted(self.keys, _key(codes, seconds), side="right")
        start = np.searchsorted(self.keys, _key(codes, np.zeros_like(seconds)), side="left")
        return np.where(codes == missing, 0, until - start).astype(np.float64)


_SECOND_BITS = 36
"""Bits of the seconds in a combined key: times from 1970 to the year 4147."""


def _seconds(times: pl.Series) -> NDArray[np.int64]:
    seconds: NDArray[np.int64] = times.dt.epoch("s").to_numpy().astype(np.int64)
    return np.clip(seconds, 0, (1 << _SECOND_BITS) - 1)


def _key(codes: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    return (codes << _SECOND_BITS) | seconds


class History:
    """A member's listings and complaints as a source of counts as of a moment.

    Args:
        listings: canonical listings; only ``listing_id``, ``seller_id``, ``created_at`` are read.
        complaints: canonical complaints.
    """

    def __init__(self, listings: pl.DataFrame, complaints: pl.DataFrame) -> None:
        buyers = complaints.filter(pl.col("source") == "buyer")
        sellers = listings.select("listing_id", "seller_id").unique("listing_id")
        joined = buyers.join(sellers, on="listing_id", how="left")
        fakes = joined.filter(pl.col("claim") == "fake")
        self._listing = _Events.build(joined["listing_id"], joined["created_at"])
        self._listing_fake = _Events.build(fakes["listing_id"], fakes["created_at"])
        self._seller = _Events.build(joined["seller_id"], joined["created_at"])
        self._seller_fake = _Events.build(fakes["seller_id"], fakes["created_at"])
        self._offers = _Events.build(listings["seller_id"], listings["created_at"])

    @classmethod
    def empty(cls) -> History:
        """Return a history in which nothing ever happened."""
        return cls(empty_frame("listings"), empty_frame("complaints"))

    def counts(self, frame: pl.DataFrame, as_of: pl.Series) -> dict[str, F64]:
        """Return the complaint features of each listing at its moment.

        Args:
            frame: canonical listings.
            as_of: the moment of each row, aware; nothing after it is counted.

        Returns:
            float64[rows] each: ``listing_complaints``, ``listing_fake_claims``,
            ``seller_complaints`` and ``seller_fake_rate`` (fake claims per listing the seller
            had offered by then; NaN if the seller is unknown).
        """
        seconds = _seconds(as_of)
        listings, sellers = frame["listing_id"].to_list(), frame["seller_id"].to_list()
        offers = self._offers.count(sellers, seconds)
        fakes = self._seller_fake.count(sellers, seconds)
        rate = np.where(offers > 0, fakes / np.maximum(offers, 1), np.nan)
        return {
            "listing_complaints": self._listing.count(listings, seconds),
            "listing_fake_claims": self._listing_fake.count(listings, seconds),
            "seller_complaints": self._seller.count(sellers, seconds),
            "seller_fake_rate": rate,
        }
