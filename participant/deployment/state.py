"""``models/active.json``: which model runs, what ran before, and how far releases have come.

One file, replaced by one rename: a process killed at any point leaves the old model running or
the new one, with the head and the calibration that belong to it, and never something in between.
The file carries its own digest, so that no changed byte of it goes unnoticed. The digest is no
signature: whoever may write the folder may write another state, and could use the node's keys too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import NotFound, StateError, VerificationError
from shared.files import write_atomic

FILE_NAME = "active.json"
LOCAL_ID = "local"
MAX_PREVIOUS = 10
"""Activations that can be rolled back one by one."""

VERSION = 2
"""Of the file. Version 1 had no digest, no heads and no pin; it is read, and replaced when next
something changes."""

Action = Literal["activate", "rollback"]


class ActiveStateDamaged(VerificationError):
    """The file that says which model runs was changed by something else than this program."""

    code = "active_state_damaged"


class HeadRef(BaseModel):
    """The personal head that belongs to an activation.

    Attributes:
        path: its file, relative to ``models/``.
        sha256: hex digest of the file.
        setting: how strongly it was held to the release, for people to read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    setting: str


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
        head: the personal head on top of it, or None.
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
    head: HeadRef | None = None
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
        pinned: while true, only a person changes what runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = 2
    active: Activation | None = None
    previous: tuple[Activation, ...] = ()
    highest_sequence: int = Field(0, ge=0)
    pinned: bool = False

    def activated(self, new: Activation) -> ActiveState:
        """Return the state in which ``new`` runs and what ran can be rolled back to."""
        before = () if self.active is None else (self.active,)
        return ActiveState(
            active=new,
            previous=(*before, *self.previous)[:MAX_PREVIOUS],
            highest_sequence=max(self.highest_sequence, new.sequence),
            pinned=self.pinned,
        )

    def rolled_back(self, again: Activation, steps: int = 1) -> ActiveState:
        """Return the state in which ``again``, ``steps`` back in ``previous``, runs once more."""
        return ActiveState(
            active=again,
            previous=self.previous[steps:],
            highest_sequence=self.highest_sequence,
            pinned=self.pinned,
        )

    def files(self) -> set[str]:
        """Return the paths, relative to ``models/``, that running or rolling back needs."""
        needed = [one for one in (self.active, *self.previous) if one is not None]
        heads = {one.head.path for one in needed if one.head is not None}
        return {one.path for one in needed} | heads

    def last(self) -> Activation:
        """Return what ran before; raises :class:`NotFound` when nothing did."""
        if not self.previous:
            raise NotFound("there is no earlier model to roll back to")
        return self.previous[0]


def pinnable(state: ActiveState, text: str) -> str:
    """Return the id of what runs if ``text``, an id, its first digits or ``local``, means it.

    Raises:
        NotFound: nothing runs.
        StateError: something else runs.
    """
    if state.active is None:
        raise NotFound("no model runs here yet, so there is nothing to pin")
    if not text or not state.active.release_id.startswith(text.lower()):
        raise StateError(
            f"what runs here is {state.active.release_id}, and only that can be pinned",
            hint="`model activate` the other one first",
        )
    return state.active.release_id


def read_state(models: Path) -> ActiveState:
    """Return the state of a ``models/`` folder; the empty one if nothing ever ran.

    Raises:
        ActiveStateDamaged: a byte of the file is not as it was written.
        StateError: it was written by a newer version.
    """
    path = models / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ActiveState()
    body = _opened(data)
    version = body.get("schema_version")
    if isinstance(version, int) and version > VERSION:
        raise StateError(
            f"{FILE_NAME} was written by a newer version of this program",
            hint="upgrade touchstone, or restore models/active.json from a backup",
        )
    try:
        state = ActiveState.model_validate(body)
    except ValidationError as error:
        raise _damaged(str(error)) from error
    return state.model_copy(update={"schema_version": VERSION})


def write_state(models: Path, state: ActiveState) -> None:
    """Replace the state by one rename; raises :class:`StorageError`."""
    body = state.model_dump(mode="json")
    write_atomic(models / FILE_NAME, _text({**body, _DIGEST: _digest(body)}), mode=0o600)


_DIGEST = "sha256"


def _opened(data: bytes) -> dict[str, Any]:
    """Return the file's content without its digest, if every byte is as it was written."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if not isinstance(found, dict) or _text(found) != data:
        raise _damaged("not as this program writes it")
    body = {name: value for name, value in found.items() if name != _DIGEST}
    if body.get("schema_version") != 1 and found.get(_DIGEST) != _digest(body):
        raise _damaged("its digest is another")
    return found if body.get("schema_version") == 1 else body


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(_text(body)).hexdigest()


def _damaged(detail: str) -> ActiveStateDamaged:
    return ActiveStateDamaged(
        f"{FILE_NAME} was changed by something else than this program",
        hint="restore models/active.json from a backup; without one remove it and `model activate` "
        "the newest release that ran here, or a newer one: older ones stay refused",
        detail=detail,
    )
