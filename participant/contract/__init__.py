"""The data contract: what a member's records must satisfy before they may train."""

from __future__ import annotations

from participant.contract.report import ContractReport, Finding
from participant.contract.service import check_records, contract_of, table_of

__all__ = ["ContractReport", "Finding", "check_records", "contract_of", "table_of"]
