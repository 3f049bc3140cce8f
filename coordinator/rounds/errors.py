"""How a run ends before its last round, each with a reason code that is stored with it."""

from __future__ import annotations

from shared.errors import StateError, TouchstoneError


class RunStopped(TouchstoneError):
    """The coordinator is shutting down; the run goes on when it is back."""

    code = "run_stopped"


class RunAborted(StateError):
    """The operator ended the run."""

    code = "run_aborted"


class RunFailed(StateError):
    """The run cannot go on; ``reason`` is a stable reason code."""

    code = "run_failed"

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class TooFewNow(TouchstoneError):
    """Too few members for this step at this moment; worth trying again after a pause."""

    code = "too_few_now"


class RoundBurnt(TouchstoneError):
    """Shares were revealed but no usable sum came of it; the round number is spent."""

    code = "round_burnt"
