"""The closed vocabularies and limits of the domain; needs nothing but the standard library."""

from __future__ import annotations

from typing import Literal, get_args

SCHEMA_VERSION = 1
"""Version of the record schemas, part of a run's manifest: members train on like records."""

Kind = Literal["listings", "complaints", "verdicts", "shops"]
VerdictValue = Literal["counterfeit", "grey_market", "other_ip", "authentic", "unsure"]
VerdictSource = Literal["analyst", "test_purchase", "customs", "platform", "rule"]
ComplaintSource = Literal["buyer", "analyst", "test_purchase", "customs", "appeal"]
ComplaintClaim = Literal["fake", "defect", "not_received", "wrong_item", "other"]

KINDS: tuple[Kind, ...] = get_args(Kind)
VERDICTS: tuple[str, ...] = get_args(VerdictValue)
VERDICT_SOURCES: tuple[str, ...] = get_args(VerdictSource)
COMPLAINT_SOURCES: tuple[str, ...] = get_args(ComplaintSource)
COMPLAINT_CLAIMS: tuple[str, ...] = get_args(ComplaintClaim)

MAX_ID = 200
"""Characters in an identifier: longer ones are URLs or mistakes, and index keys stay small."""

MAX_TITLE = 2_000
"""Characters in a title, seller name or other short text."""

MAX_DESCRIPTION = 50_000
"""Characters in a description or complaint text: above every marketplace's own limit."""

MAX_URL = 2_048
"""Characters in a URL: what browsers and proxies handle."""

MAX_HOST = 253
"""Characters in a host name (RFC 1035, section 2.3.4, in presentation form)."""

MAX_SIGNALS = 256
"""Further signals in one record."""

MAX_IMAGES = 64
"""Image hashes in one listing."""

MAX_PRICE = 1e9
"""Largest price in any currency; larger ones are parse errors."""
