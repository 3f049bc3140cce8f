"""Part ``time``: events in the order in which they can happen, none of them in the future."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from participant.contract.report import Figures, Finding, Part, finding
from participant.contract.rules import FUTURE_SLACK_S
from participant.contract.view import View


def check_times(view: View) -> Part:
    """Check created <= updated <= known, created <= decided <= reversed, and no future."""
    orders = [("updated_before_created", view.frame, "created_at", "updated_at")]
    if view.table == "listings":
        born = view.frame.select("listing_id", born="created_at")
        verdicts = view.verdicts.join(born, on="listing_id", how="inner")
        complaints = view.complaints.join(born, on="listing_id", how="inner")
        orders += [
            ("decided_before_created", verdicts, "born", "decided_at"),
            ("reversed_before_decided", view.verdicts, "decided_at", "reversed_at"),
            ("complaint_before_listing", complaints, "born", "created_at"),
        ]
    figures: Figures = {}
    findings: list[Finding] = []
    for code, frame, earlier, later in orders:
        both = frame.select(earlier, later).drop_nulls()
        wrong = int((both[later] < both[earlier]).sum())
        figures[code] = wrong
        if wrong:
            findings.append(finding(code, wrong, both.height))
    if view.table == "listings":
        judged = verdicts.select("born", "decided_at").drop_nulls()
        same = int((judged["born"] == judged["decided_at"]).sum())
        figures["decided_when_created"] = same
        if same:
            findings.append(finding("decided_when_created", same, judged.height))
    return Part(figures=figures, findings=(*findings, *_future(view, figures)))


def _future(view: View, figures: Figures) -> list[Finding]:
    limit = view.now + timedelta(seconds=FUTURE_SLACK_S)
    tables = {view.table: view.frame, "complaints": view.complaints, "verdicts": view.verdicts}
    findings = []
    total = 0
    for table, frame in tables.items():
        for name, dtype in frame.schema.items():
            if not dtype.is_temporal():
                continue
            times = frame.select(pl.col(name)).to_series().drop_nulls()
            ahead = int((times > limit).sum())
            total += ahead
            if ahead:
                column = f"{table}.{name}"
                findings.append(finding("in_the_future", ahead, len(times), column=column))
    figures["in_the_future"] = total
    return findings
