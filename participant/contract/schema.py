"""Part ``schema``: columns as this version knows them, required values there, others not empty."""

from __future__ import annotations

import polars as pl

from participant.contract.report import Finding, Part, finding
from participant.contract.view import View
from shared.domain.schemas import REQUIRED, SCHEMA_VERSION, SCHEMAS
from shared.domain.vocabulary import Kind

LEANED_ON: dict[Kind, tuple[str, ...]] = {
    "listings": ("title", "brand", "category", "price", "seller_id", "created_at"),
    "shops": ("created_at",),
    "complaints": (),
    "verdicts": (),
}
"""Columns without which a model is much weaker, or the split cannot keep apart."""


def check_schema(view: View) -> Part:
    """Check every stored kind that training reads."""
    kinds: tuple[Kind, ...] = (view.table,)
    if view.table == "listings":
        kinds = ("listings", "complaints", "verdicts")
    findings: list[Finding] = []
    nulls: dict[str, float] = {}
    for kind in kinds:
        findings += _check_kind(view, kind, nulls)
    records = view.records.count(view.table)
    figures = {"schema_version": SCHEMA_VERSION, "records": records, "nulls": nulls}
    return Part(figures=figures, findings=tuple(findings))


def _check_kind(view: View, kind: Kind, nulls: dict[str, float]) -> list[Finding]:
    foreign = view.records.foreign_segments(kind)
    if foreign:
        return [finding("foreign_schema", foreign, column=kind)]
    rows = view.records.count(kind)
    if rows == 0:
        return []
    counts = view.records.scan(kind).select(pl.all().null_count()).collect().row(0, named=True)
    nulls |= {f"{kind}.{name}": round(counts[name] / rows, 4) for name in SCHEMAS[kind]}
    return [
        finding("required_missing", counts[name], rows, column=f"{kind}.{name}")
        for name in REQUIRED[kind]
        if counts[name]
    ] + [
        finding("column_empty", rows, rows, column=f"{kind}.{name}")
        for name in LEANED_ON[kind]
        if counts[name] == rows
    ]
