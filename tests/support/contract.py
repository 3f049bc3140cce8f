"""A member's records that keep the data contract, to be spoiled one way at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from participant.contract import ContractReport
from participant.contract.rules import CONTRACT_VERSION
from participant.contract.service import examine
from participant.contract.view import View
from participant.store import Store
from shared.clock import FixedClock
from tests.support.model import NOW, listing, records

ROWS, JUDGED = 600, 400
_NOUNS = ("bag", "watch", "shoe", "scarf", "belt", "ring", "coat", "lamp", "mug", "pen")
_WORDS = ("leather", "steel", "blue", "small", "old", "fine", "rare", "light", "round", "soft")


@dataclass(frozen=True)
class Tables:
    """Canonical tables of one member."""

    listings: pl.DataFrame
    verdicts: pl.DataFrame
    complaints: pl.DataFrame

    def but(self, **tables: pl.DataFrame) -> Tables:
        """Return these tables with some of them replaced."""
        return replace(self, **tables)


def fakes() -> np.ndarray:
    """bool[ROWS]: which listings are counterfeit; the last third is never judged."""
    return np.arange(ROWS) % 3 == 0


def sound() -> Tables:
    """Return tables without a single finding: ten months, 120 sellers, a third counterfeit."""
    draw = np.random.Generator(np.random.Philox(7))
    start = NOW - timedelta(days=300)
    rows, verdicts = [], []
    for at, fake in enumerate(fakes()):
        born = start + timedelta(hours=11 * at)
        words = [str(word) for word in draw.choice(_WORDS, 14)]
        rows.append(
            listing(
                at,
                title=f"{draw.choice(_NOUNS)} {' '.join(words[:5])} {at}",
                description=f"{' '.join(words[5:])} {at * 7919 % 1009}",
                price=float(draw.lognormal(3.0 if fake else 3.5, 0.8)),
                seller_id=f"seller-{at // 5}",
                created_at=born,
                updated_at=born,
                signals=signals(views=float(draw.normal(1.0 if fake else 0.0)), ship="post"),
            )
        )
        if at < JUDGED:
            verdict = "counterfeit" if fake else "authentic"
            verdicts.append(
                {
                    "listing_id": f"listing-{at}",
                    "verdict": verdict,
                    "source": "analyst",
                    "decided_at": born + timedelta(days=3),
                }
            )
    complaint = {
        "complaint_id": "c1",
        "listing_id": "listing-1",
        "source": "buyer",
        "claim": "defect",
        "created_at": NOW - timedelta(days=1),
    }
    return Tables(
        records("listings", *rows), records("verdicts", *verdicts), records("complaints", complaint)
    )


def signals(**values: Any) -> str:
    """Return signals as they are stored."""
    return json.dumps(values)


def with_signal(tables: Tables, name: str, values: list[Any]) -> Tables:
    """Return the tables with one more signal on every listing; None is null."""
    told = [
        json.dumps({**json.loads(text), name: value})
        for text, value in zip(tables.listings["signals"], values, strict=True)
    ]
    return tables.but(listings=tables.listings.with_columns(signals=pl.Series(told)))


@dataclass(frozen=True)
class InMemory:
    """What the contract asks of a record store, without a store: one version of each record."""

    tables: dict[str, pl.DataFrame]

    def scan(self, kind: str) -> pl.LazyFrame:
        return self.tables[kind].lazy()

    def frame(self, kind: str, columns: list[str] | None = None) -> pl.DataFrame:
        return self.tables[kind].select(columns or pl.all())

    def older(self, kind: str, among: pl.Series, columns: list[str]) -> pl.DataFrame:
        return self.frame(kind, columns).clear()

    def count(self, kind: str) -> int:
        return self.tables[kind].height

    def foreign_segments(self, kind: str) -> int:
        return 0


def check(tables: Tables) -> ContractReport:
    """Check the tables."""
    kept = {
        "listings": tables.listings,
        "verdicts": tables.verdicts,
        "complaints": tables.complaints,
    }
    parts = examine(View(InMemory(kept), "listings", NOW))
    return ContractReport(
        contract=CONTRACT_VERSION, kind="listings", state="", checked_at=NOW, parts=parts
    )


def store_of(tables: Tables, folder: Path) -> Store:
    """Return a new store that holds the tables."""
    store = Store.open(folder, clock=FixedClock(NOW))
    for kind in ("listings", "verdicts", "complaints"):
        store.records.put(kind, getattr(tables, kind))
    return store


def told(report: ContractReport) -> dict[str, str]:
    """Return code -> level of what was found."""
    return {one.code: one.level for one in report.findings}
