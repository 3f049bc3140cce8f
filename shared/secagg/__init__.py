"""The secure sum: the coordinator learns the sum over enough members and nothing else.

Pure state machines over numpy and cryptography. The protocol: docs/explanation/secure-sum.md.
"""

from __future__ import annotations

from shared.secagg.coordinator import Coordinator
from shared.secagg.coordinator_setup import SetupOutcome
from shared.secagg.evidence import RoundEvidence, SetupEvidence
from shared.secagg.guard import RunGuard
from shared.secagg.member import Member
from shared.secagg.quantise import Quantiser, default_value_bits, pack, unpack_mean
from shared.secagg.results import AnsweredRound, MaskedUpload, OpenRound, RoundFacts, RoundSum
from shared.secagg.tail import (
    Evaluation,
    Layout,
    NoiseTerms,
    OpenedSum,
    build_vector,
    check_sum,
    next_model,
)
from shared.secagg.terms import (
    MemberLimits,
    SessionTerms,
    default_colluders,
    default_n_min,
    default_threshold,
    listed_members,
)
from shared.secagg.wire import Peek, peek

__all__ = [
    "AnsweredRound",
    "Coordinator",
    "Evaluation",
    "Layout",
    "MaskedUpload",
    "Member",
    "MemberLimits",
    "NoiseTerms",
    "OpenRound",
    "OpenedSum",
    "Peek",
    "Quantiser",
    "RoundEvidence",
    "RoundFacts",
    "RoundSum",
    "RunGuard",
    "SessionTerms",
    "SetupEvidence",
    "SetupOutcome",
    "build_vector",
    "check_sum",
    "default_colluders",
    "default_n_min",
    "default_threshold",
    "default_value_bits",
    "listed_members",
    "next_model",
    "pack",
    "peek",
    "unpack_mean",
]
