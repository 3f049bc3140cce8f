"""What the transcript says of one round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds.book import Attempt
from coordinator.rounds.journal import Journal
from shared.secagg import Coordinator, RoundEvidence, RoundFacts, RoundSum
from shared.trust.round_record import NO_SUM, Outcome, RoundRecord
from shared.trust.transcript import model_sha256


def summed_record(
    result: RoundSum,
    core: Coordinator,
    journal: Journal,
    attempt: Attempt,
    model: NDArray[np.float32],
    following: NDArray[np.float32],
) -> RoundRecord:
    """Return the record of a round whose sum made ``following`` out of ``model``.

    The round's evidence is durable before the record that names it exists.
    """
    setup_sha256 = _kept(journal, core, result.round, result.evidence)
    return RoundRecord(
        round=result.round,
        attempt=attempt.attempt,
        session_id=result.session_id,
        ordinal=core.terms.ordinal,
        slot=result.slot,
        t2=result.t2,
        participants=result.participants,
        survivors=result.survivors,
        vectors=result.digests,
        certificate=result.certificate,
        outcome=Outcome.SUMMED,
        sum_sha256=result.sum_sha256,
        model_sha256=model_sha256(model),
        next_model_sha256=model_sha256(following),
        setup_sha256=setup_sha256,
        evidence_sha256=result.evidence.digest(),
    )


def burnt_record(
    facts: RoundFacts,
    core: Coordinator,
    journal: Journal,
    attempt: Attempt,
    model: NDArray[np.float32],
) -> RoundRecord:
    """Return the record of a round that was released but not summed; its evidence is durable."""
    digest, setup_sha256 = model_sha256(model), _kept(journal, core, attempt.round, facts.evidence)
    return RoundRecord(
        round=attempt.round,
        attempt=attempt.attempt,
        session_id=core.terms.session_id,
        ordinal=core.terms.ordinal,
        slot=facts.slot,
        t2=facts.t2,
        participants=facts.participants,
        survivors=facts.survivors,
        vectors=facts.digests,
        certificate=facts.certificate,
        outcome=Outcome.BURNT,
        sum_sha256=NO_SUM,
        model_sha256=digest,
        next_model_sha256=digest,
        setup_sha256=setup_sha256,
        evidence_sha256=facts.evidence.digest(),
    )


def _kept(journal: Journal, core: Coordinator, number: int, evidence: RoundEvidence) -> bytes:
    """Make a round's evidence and its session's durable; return the hash of the latter."""
    setup = core.setup_evidence()
    journal.keep_evidence(number, evidence.encode(), core.terms.session_id, setup.encode())
    return setup.digest()
