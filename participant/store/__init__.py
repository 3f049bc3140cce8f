"""A member's state: records in Parquet segments, everything else in one SQLite file."""

from __future__ import annotations

from participant.store.store import Store

__all__ = ["Store"]
