"""What a decision about a model came to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from participant.deployment.acceptance import Reason
from participant.deployment.state import Activation

Decision = Literal[
    "activated", "kept", "activated_local", "already_active", "already_judged", "repaired"
]


@dataclass(frozen=True)
class DeploymentOutcome:
    """What was decided about a release; never leaves the member.

    Attributes:
        decision: what happened.
        reason: stable reason code, see :class:`Reason`.
        metrics: the local figures it rests on.
        release_id: hex of the release, or ``local``.
        calibrated: whether what runs now has a calibration of its own.
        head: setting of the personal head on what runs now, None without one.
        skipped: ids of damaged models that rolling back passed over.
    """

    decision: Decision
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)
    release_id: str = ""
    calibrated: bool = False
    head: str | None = None
    skipped: tuple[str, ...] = ()


def outcome(decision: Decision, activation: Activation) -> DeploymentOutcome:
    """Return the outcome that leaves an activation running."""
    return DeploymentOutcome(
        decision,
        activation.reason,
        activation.metrics,
        activation.release_id,
        activation.calibration is not None,
        None if activation.head is None else activation.head.setting,
    )


def already(activation: Activation) -> DeploymentOutcome:
    """Return the outcome where that ran before, whole."""
    return replace(outcome("already_active", activation), reason=Reason.ALREADY_ACTIVE.value)


def repaired(activation: Activation) -> DeploymentOutcome:
    """Return the outcome where that ran before and was damaged."""
    return replace(outcome("repaired", activation), reason=Reason.REPAIRED.value)
