"""Whether what runs is whole: the files of an activation, looked at without raising."""

from __future__ import annotations

from pathlib import Path

from participant.deployment.active import load_activation, load_head
from participant.deployment.state import Activation, ActiveState
from shared.errors import NotFound, VerificationError


def whole(state_dir: Path, state: ActiveState, release_id: bytes) -> Activation | None:
    """Return what runs if it is this release and every file of it is as it was."""
    active = state.active
    if active is None or active.release_id != release_id.hex():
        return None
    try:
        load_activation(state_dir, active)
    except (VerificationError, NotFound):
        return None
    return active


def fetch_repairs(state_dir: Path, state: ActiveState, release_id: bytes) -> bool:
    """Tell whether this release runs and needs no more than its own files to be whole.

    A damaged head is not fetched: it is fitted anew, and that is another activation.
    """
    active = state.active
    if active is None or active.release_id != release_id.hex():
        return False
    try:
        load_head(state_dir, active)
    except (VerificationError, NotFound):
        return False
    return True
