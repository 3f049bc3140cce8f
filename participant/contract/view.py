"""What the contract looks at: the labelled records as training would see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from participant.store.records import Records
from participant.training.known import Table, groups_of, known_records, spoken_of, times_of
from participant.training.split import Split, split_records


@dataclass(frozen=True)
class View:
    """One state of a member's records, read once.

    Attributes:
        records: The record store.
        table: ``listings`` or ``shops``.
        now: The moment; what is later does not exist yet.
    """

    records: Records
    table: Table
    now: datetime

    @property
    def id_column(self) -> str:
        """The record's identifier."""
        return "listing_id" if self.table == "listings" else "shop_id"

    @cached_property
    def _stored(self) -> pl.DataFrame:
        """Every record as it is now, without its long texts, in order of arrival."""
        return self.records.frame(self.table, self._columns)

    @cached_property
    def _columns(self) -> list[str]:
        skipped = ("description", "url")
        schema = self.records.scan(self.table).collect_schema()
        return [name for name in schema if name not in skipped]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Every record without its long texts, in order of arrival, as training sees it.

        A labelled listing is there as it was when training judges it, all others as they are now.
        """
        if self._older.is_empty():
            return self._stored
        shown = self.known.select(self._columns)
        rest = self._stored.join(shown, on=self.id_column, how="anti")
        order = self._stored.select(self.id_column)
        together = pl.concat([shown, rest])
        return order.join(together, on=self.id_column, how="left", maintain_order="left").select(
            self._columns
        )

    @cached_property
    def complaints(self) -> pl.DataFrame:
        """Every complaint without its text; none about shops."""
        columns = ["complaint_id", "listing_id", "source", "claim", "created_at"]
        complaints = self.records.frame("complaints", columns)
        return complaints if self.table == "listings" else complaints.clear()

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """Every verdict; none on shops."""
        verdicts = self.records.frame("verdicts")
        return verdicts if self.table == "listings" else verdicts.clear()

    @cached_property
    def known(self) -> pl.DataFrame:
        """The labelled records as training sees them.

        Beside their columns stand ``label``, ``confidence``, ``class``, ``labelled_at`` and
        ``judged_at``.
        """
        tables = (self._stored, self.complaints, self.verdicts)
        return known_records(self.table, *tables, self.now, self._older)

    @cached_property
    def _older(self) -> pl.DataFrame:
        """What listings that somebody spoke of were like before; of shops the latest counts."""
        if self.table == "shops":
            return self._stored.clear()
        told = spoken_of(self.complaints, self.verdicts)
        return self.records.older("listings", told, self._columns)

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """int8[known], 1 is counterfeit."""
        return self.known["label"].to_numpy().astype(np.int8)

    @cached_property
    def groups(self) -> list[str]:
        """The seller, or host, of each labelled record."""
        return groups_of(self.table, self.known)

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """int64[known], seconds since 1970, -1 if unknown."""
        return times_of(self.table, self.known)

    @cached_property
    def split(self) -> Split:
        """The split that training uses."""
        return split_records(self.groups, self.times)
