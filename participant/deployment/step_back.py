"""What rolling back goes to: the newest of the models before that is still whole."""

from __future__ import annotations

from pathlib import Path

from participant.deployment.active import load_activation
from participant.deployment.state import Activation, ActiveState
from shared.errors import NotFound, VerificationError


def step_back(state_dir: Path, state: ActiveState) -> tuple[Activation, tuple[str, ...]]:
    """Return what ran before and still loads, and the ids of what is passed over, newest first.

    Raises:
        NotFound: nothing ran before, or the files of the newest are gone and no other loads.
        VerificationError: the newest is damaged and no other loads.
    """
    state.last()
    passed: list[NotFound | VerificationError] = []
    for one in state.previous:
        try:
            load_activation(state_dir, one)
        except (NotFound, VerificationError) as error:
            passed.append(error)
        else:
            return one, tuple(before.release_id for before in state.previous[: len(passed)])
    raise passed[0]
