"""Exports of any shape -> validated records in the canonical schema."""

from __future__ import annotations

from participant.ingest.mapping import Mapping, load_mapping, parse_mapping
from participant.ingest.rejects import Reject
from participant.ingest.service import ImportReport, import_file, read_records

__all__ = [
    "ImportReport",
    "Mapping",
    "Reject",
    "import_file",
    "load_mapping",
    "parse_mapping",
    "read_records",
]
