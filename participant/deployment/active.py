"""Loading the model that runs; every load checks digest, signature and feature space again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from participant.deployment.local_model import LocalModel
from participant.deployment.state import LOCAL_ID, Activation, read_state
from participant.node.config import NodeConfig
from participant.training.calibration import Calibration
from shared.errors import NotFound
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.bundle_errors import BundleDigestError
from shared.model.layout import ModelSpec

MODELS = "models"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score.

    Attributes:
        spec: its shape.
        vector: float32[P].
        calibration: turns its scores into risk and bands; None if the member's calibration
            split could not tell, then scores are shown without bands that promise a precision.
        release_id: hex, or ``local``.
        kind: what it scores, ``listing`` or ``shop``.
    """

    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)
    calibration: Calibration | None
    release_id: str
    kind: str


def active_model(state_dir: Path) -> LoadedModel | None:
    """Return the model that runs at this member, or None.

    Raises:
        StateError: ``active.json`` is damaged.
        VerificationError: the model's file is not the one that was activated.
        NotFound: the model's file is gone.
    """
    active = read_state(state_dir / MODELS).active
    return None if active is None else load_activation(state_dir, active)


def load_activation(state_dir: Path, activation: Activation) -> LoadedModel:
    """Load the model of one activation; raises as :func:`active_model`."""
    calibration = activation.calibration
    model = _load(state_dir, activation)
    return LoadedModel(
        spec=model.spec,
        vector=model.vector,
        calibration=None if calibration is None else Calibration.from_dict(calibration),
        release_id=activation.release_id,
        kind=activation.kind,
    )


def _load(state_dir: Path, activation: Activation) -> LocalModel | VerifiedBundle:
    path = state_dir / MODELS / activation.path
    if activation.release_id == LOCAL_ID:
        return LocalModel.decode(read_checked(path, activation.sha256))
    data = read_checked(path / FILE_NAME, activation.sha256)
    return verify_release(state_dir, data, bytes.fromhex(activation.release_id))


def read_checked(path: Path, sha256: str) -> bytes:
    """Return a model file whose digest is known.

    Raises:
        NotFound: it is gone.
        BundleDigestError: it is another one.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"the active model's file {path.name} is gone",
            hint="`model rollback`, or fetch the release again with `model activate`",
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleDigestError(
            "the active model's file was changed after it was activated",
            hint="`model rollback`, or fetch the release again with `model activate`",
        )
    return data


def verify_release(
    state_dir: Path,
    bundle: bytes | UnverifiedBundle,
    release_id: bytes | None = None,
    *,
    min_sequence: int = 1,
) -> VerifiedBundle:
    """Verify a bundle, or the bytes of one, against the alliance this folder joined.

    Raises:
        StateError: the folder has not joined an alliance, so no key is pinned.
        VerificationError: see :meth:`UnverifiedBundle.verify`.
    """
    alliance = NodeConfig.load(state_dir).alliance
    unverified = UnverifiedBundle.read(bundle) if isinstance(bundle, bytes) else bundle
    return unverified.verify(
        bytes.fromhex(alliance.coordinator_public_key),
        expected_feature_space=None,
        min_sequence=min_sequence,
        alliance_id=bytes.fromhex(alliance.id),
        release_id=release_id,
    )
