"""What a check found: codes, counts and column names, never a record's content."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from participant.contract.rules import RULES, Level

Figures = dict[str, Any]
"""JSON-able figures of one part of the contract, by name."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Frozen):
    """One rule that did not hold.

    Attributes:
        code: A key of :data:`~participant.contract.rules.RULES`.
        level: ``fail`` or ``warn``.
        column: The column or signal at fault; empty when it is about whole records.
        count: Records concerned.
        of: Records looked at.
        value: A figure that belongs to the rule, such as an area under the curve.
    """

    code: str
    level: Level
    column: str = ""
    count: int = 0
    of: int = 0
    value: float | None = None

    @property
    def text(self) -> str:
        """One line for a person."""
        where = f"{self.column}: " if self.column else ""
        share = f" ({self.count} of {self.of})" if self.of else ""
        value = f", {self.value:.3f}" if self.value is not None else ""
        return f"{where}{RULES[self.code].meaning}{value}{share}"


def finding(
    code: str, count: int = 0, of: int = 0, *, column: str = "", value: float | None = None
) -> Finding:
    """Return a finding at its rule's level."""
    rule = RULES[code]
    fails = rule.fails_above is not None and count > rule.fails_above * of
    level: Level = "fail" if fails else rule.level
    return Finding(code=code, level=level, column=column, count=count, of=of, value=value)


class Part(_Frozen):
    """One part of the contract: what it measured and what it found."""

    figures: Figures
    findings: tuple[Finding, ...] = ()


class ContractReport(_Frozen):
    """The contract's verdict on one state of the store.

    Attributes:
        contract: Version of the rules.
        kind: ``listings`` or ``shops``.
        state: Digest of the stored records that were looked at.
        checked_at: When.
        parts: Part -> figures and findings.
    """

    contract: int
    kind: str
    state: str
    checked_at: datetime
    parts: dict[str, Part]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, failures first."""
        found = [one for part in self.parts.values() for one in part.findings]
        return tuple(sorted(found, key=lambda one: one.level != "fail"))

    @property
    def holds(self) -> bool:
        """Whether the records may train."""
        return not any(one.level == "fail" for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields."""
        return {
            "kind": self.kind,
            "holds": self.holds,
            "checked_at": self.model_dump(mode="json")["checked_at"],
            "findings": [
                {**one.model_dump(), "meaning": RULES[one.code].meaning} for one in self.findings
            ],
            "figures": {name: part.figures for name, part in self.parts.items()},
        }
