"""Refusals of the secure sum, each with a stable code and, where the protocol can tell, a culprit.

``culprit`` is a roster index (0 is the coordinator) or ``None``; ``pair`` holds two indices when
one of them cheated and nobody can tell which.
"""

from __future__ import annotations

from shared.errors import (
    BadInput,
    MalformedMessage,
    PolicyRefused,
    StateError,
    TouchstoneError,
    VerificationError,
)


class SecaggError(TouchstoneError):
    """Mixin root: everything the secure sum raises on purpose."""

    code = "secagg"

    def __init__(
        self,
        message: str,
        *,
        culprit: int | None = None,
        pair: tuple[int, int] | None = None,
        hint: str = "",
        detail: str = "",
    ) -> None:
        TouchstoneError.__init__(self, message, hint=hint, detail=detail)
        self.culprit = culprit
        self.pair = pair


class BadMessage(SecaggError, MalformedMessage):
    """A message of the secure sum does not decode or has fields out of range."""

    code = "secagg_bad_message"


class BadSignature(SecaggError, VerificationError):
    """A signature does not hold, or the message is of another session or sender."""

    code = "secagg_bad_signature"


class BadKey(SecaggError, VerificationError):
    """A session key is malformed, of low order, or repeated."""

    code = "secagg_bad_key"


class ViewMismatch(SecaggError, VerificationError):
    """The coordinator passed on something other than what a member signed."""

    code = "secagg_view_mismatch"


class RequestChanged(SecaggError, VerificationError):
    """A request that was already answered came again with other bytes."""

    code = "secagg_request_changed"


class UnmaskRefused(SecaggError, VerificationError):
    """An unmask, sign or release request would reveal more than one sum over enough members."""

    code = "secagg_unmask_refused"


class BadShare(SecaggError, VerificationError):
    """A revealed share does not match the hash its dealer signed."""

    code = "secagg_bad_share"


class InconsistentDealer(SecaggError, VerificationError):
    """A member dealt shares that interpolate to something it did not commit to."""

    code = "secagg_inconsistent_dealer"


class BadUpload(SecaggError, VerificationError):
    """A masked vector does not have the digest, length or transcript that its header signs."""

    code = "secagg_bad_upload"


class SumRejected(SecaggError, VerificationError):
    """The unmasked sum does not add up: a canary, a range or a weight is impossible."""

    code = "secagg_sum_rejected"


class TermsRefused(SecaggError, PolicyRefused):
    """The session's or the round's terms are weaker than this member's policy."""

    code = "secagg_terms_refused"
    reason = "secagg_terms"


class RoundReleased(SecaggError, PolicyRefused):
    """The member already gave a share for this round of the run."""

    code = "secagg_round_released"
    reason = "round_already_released"


class OutOfOrder(SecaggError, StateError):
    """The message belongs to another step of the protocol."""

    code = "secagg_out_of_order"


class SlotClosed(SecaggError, StateError):
    """The slot, or the session, was closed for good by a newer one or its answer is gone."""

    code = "secagg_slot_closed"


class SlotsUsedUp(SecaggError, StateError):
    """Every slot of the session is used: a new session is due."""

    code = "secagg_slots_used_up"


class TooFew(SecaggError, StateError):
    """Fewer members are left than the threshold or the minimum cohort."""

    code = "secagg_too_few"


class BadVector(SecaggError, BadInput):
    """A vector has the wrong length or type, or holds NaN or infinity."""

    code = "secagg_bad_vector"
