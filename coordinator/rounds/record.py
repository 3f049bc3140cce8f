"""What the transcript says of one round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds.book import Attempt
from shared.secagg import RoundFacts, RoundSum
from shared.trust.round_record import NO_SUM, Outcome, RoundRecord
from shared.trust.transcript import model_sha256


def summed_record(
    result: RoundSum,
    attempt: Attempt,
    model: NDArray[np.float32],
    following: NDArray[np.float32],
) -> RoundRecord:
    """Return the record of a round whose sum made ``following`` out of ``model``."""
    return RoundRecord(
        round=result.round,
        attempt=attempt.attempt,
        session_id=result.session_id,
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
    )


def burnt_record(
    facts: RoundFacts, session_id: bytes, attempt: Attempt, model: NDArray[np.float32]
) -> RoundRecord:
    """Return the record of a round that was released but not summed."""
    digest = model_sha256(model)
    return RoundRecord(
        round=attempt.round,
        attempt=attempt.attempt,
        session_id=session_id,
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
    )
