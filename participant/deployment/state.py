"""``models/active.json``: which model runs, what ran before, and how far releases have come.

One file, replaced by one rename: a process killed at any point leaves the old model running or
the new one, with the calibration that belongs to it, and never something in between.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import NotFound, StateError
from shared.files import write_atomic

FILE_NAME = "active.json"
LOCAL_ID = "local"
MAX_PREVIOUS = 10
"""Activations that can be rolled back one by one."""

Action = Literal["activate", "rollback"]


class Activation(BaseModel):
    """One model made to run.

    Attributes:
        activation_id: random hex, so that the log can tell two activations apart.
        release_id: hex, or ``local`` for the member's own local-only model.
        path: its file or folder, relative to ``models/``.
        sha256: hex digest of the model's file.
        kind: what it scores, ``listing`` or ``shop``.
        sequence: the release's number, 0 for the local-only model.
        calibration: its calibration on the member's calibration split, or None.
        action: how it came to run.
        reason: stable reason code.
        metrics: the local figures the decision rests on.
        at: RFC 3339 time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation_id: str
    release_id: str = Field(pattern="^([0-9a-f]{32}|local)$")
    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    kind: str
    sequence: int = Field(ge=0)
    calibration: dict[str, Any] | None
    action: Action
    reason: str
    metrics: dict[str, Any]
    at: str


class ActiveState(BaseModel):
    """The whole file.

    Attributes:
        schema_version: of this file.
        active: what runs, or None.
        previous: what ran before, newest first; rolling back takes the first.
        highest_sequence: the highest release number that ever ran; never falls.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    active: Activation | None = None
    previous: tuple[Activation, ...] = ()
    highest_sequence: int = Field(0, ge=0)

    def activated(self, new: Activation) -> ActiveState:
        """Return the state in which ``new`` runs and what ran can be rolled back to."""
        before = () if self.active is None else (self.active,)
        return ActiveState(
            active=new,
            previous=(*before, *self.previous)[:MAX_PREVIOUS],
            highest_sequence=max(self.highest_sequence, new.sequence),
        )

    def rolled_back(self, again: Activation) -> ActiveState:
        """Return the state in which ``again``, the newest of ``previous``, runs once more."""
        return ActiveState(
            active=again, previous=self.previous[1:], highest_sequence=self.highest_sequence
        )

    def last(self) -> Activation:
        """Return what ran before; raises :class:`NotFound` when nothing did."""
        if not self.previous:
            raise NotFound("there is no earlier model to roll back to")
        return self.previous[0]


def read_state(models: Path) -> ActiveState:
    """Return the state of a ``models/`` folder; the empty one if nothing ever ran.

    Raises:
        StateError: the file is damaged or of a newer version.
    """
    path = models / FILE_NAME
    try:
        return ActiveState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ActiveState()
    except ValidationError as error:
        raise StateError(
            f"{FILE_NAME} is damaged or was written by a newer version",
            hint="restore models/active.json from a backup, or remove it and activate a model",
            detail=str(error),
        ) from error


def write_state(models: Path, state: ActiveState) -> None:
    """Replace the state by one rename; raises :class:`StorageError`."""
    text = json.dumps(state.model_dump(mode="json"), indent=1, sort_keys=True)
    write_atomic(models / FILE_NAME, text.encode() + b"\n", mode=0o600)
