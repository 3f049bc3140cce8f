"""Codes of a refusal that both sides give a meaning of their own."""

from __future__ import annotations

APPROVAL_PENDING = "approval_pending"
"""A person at the member has not decided yet."""

OUTSIDE_HOURS = "outside_hours"
"""The member does not train at this hour."""

DATA_NOT_READY = "data_not_ready"
"""Something about the member's records; what it is does not leave the member."""

UNEXPLAINED = "refused"
"""The member gives no reason."""

SECAGG_TERMS = "secagg_terms"
"""The secure sum's terms, most often whom a round would sum, are weaker than the policy."""

OF_THE_ROUND = frozenset({SECAGG_TERMS})
"""Refusals of one round as it was put together: of another one the member may take part."""

NOT_YET = frozenset({APPROVAL_PENDING, OUTSIDE_HOURS})
"""Refusals that time may lift without anybody at the coordinator doing anything: such members are
asked again, and a run waits for them rather than fail for want of members."""
