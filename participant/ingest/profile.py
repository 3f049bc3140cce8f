"""What a member's records look like: counts, gaps, labels, time span; never their content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from participant.store.records import Records
from shared.clock import rfc3339
from shared.domain.schemas import SCHEMAS
from shared.domain.vocabulary import KINDS, Kind

_LABELS: dict[Kind, tuple[str, ...]] = {
    "listings": (),
    "complaints": ("source", "claim"),
    "verdicts": ("source", "verdict"),
    "shops": ("label",),
}
"""Columns with a closed vocabulary: safe to print, and what a trainer asks about first."""

_TIMES: dict[Kind, str] = {
    "listings": "created_at",
    "complaints": "created_at",
    "verdicts": "decided_at",
    "shops": "created_at",
}


@dataclass(frozen=True, slots=True)
class KindProfile:
    """One kind's profile.

    Attributes:
        kind: Which records.
        records: Different records, in their latest version.
        older_versions: Stored rows that are not the latest version of their record.
        nulls: Column -> records without a value.
        labels: Column -> word -> records; a missing word is ``unknown``.
        orphans: Complaints or verdicts about listings that are not stored.
        first: Earliest time, RFC 3339 UTC, or None.
        last: Latest time, RFC 3339 UTC, or None.
    """

    kind: Kind
    records: int
    older_versions: int
    nulls: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    orphans: int
    first: str | None
    last: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {
            "records": self.records,
            "older_versions": self.older_versions,
            "nulls": dict(self.nulls),
            "labels": {name: dict(counts) for name, counts in self.labels.items()},
            "orphans": self.orphans,
            "first": self.first,
            "last": self.last,
        }


def profile(records: Records) -> list[KindProfile]:
    """Return the profile of every kind, in fixed order.

    Raises:
        StorageError: a segment is missing or damaged.
    """
    return [_profile(records, kind) for kind in KINDS]


def _profile(records: Records, kind: Kind) -> KindProfile:
    nulls = records.scan(kind).select(pl.all().null_count()).collect().row(0, named=True)
    span = records.frame(kind, [_TIMES[kind]]).to_series()
    return KindProfile(
        kind=kind,
        records=records.count(kind),
        older_versions=records.older_versions(kind),
        nulls={name: nulls[name] for name in SCHEMAS[kind]},
        labels={name: _words(records, kind, name) for name in _LABELS[kind]},
        orphans=_orphans(records, kind),
        first=None if span.null_count() == len(span) else rfc3339(span.min()),  # type: ignore[arg-type]
        last=None if span.null_count() == len(span) else rfc3339(span.max()),  # type: ignore[arg-type]
    )


def _words(records: Records, kind: Kind, name: str) -> dict[str, int]:
    counts = records.frame(kind, [name]).to_series().value_counts(name="n").sort(name)
    return {"unknown" if word is None else str(word): n for word, n in counts.rows()}


def _orphans(records: Records, kind: Kind) -> int:
    if kind not in ("complaints", "verdicts"):
        return 0
    named = records.frame(kind, ["listing_id"])
    listed = records.frame("listings", ["listing_id"])
    return named.join(listed, on="listing_id", how="anti").height
