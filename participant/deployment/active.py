"""Loading the model that runs; every load checks every byte of it again.

Digests, signature, feature space, the transcript the release cites, and the personal head.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from participant.deployment.head import HeadFile
from participant.deployment.local_model import LocalModel
from participant.deployment.state import LOCAL_ID, Activation, read_state
from participant.node.config import NodeConfig
from participant.training.calibration import Calibration
from shared.errors import NotFound
from shared.model.bundle import FILE_NAME, UnverifiedBundle, VerifiedBundle
from shared.model.bundle_errors import BundleDigestError
from shared.model.layout import ModelSpec
from shared.trust.transcript import Transcript, UnverifiedTranscript

MODELS = "models"
TRANSCRIPT_NAME = "transcript.bin"
_REPAIR = "`model activate` it again, which fetches or fits it anew, or `model rollback`"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score.

    Attributes:
        spec: its shape.
        vector: float32[P], with the personal head in it if there is one.
        calibration: turns its scores into risk and bands; None if the member's calibration
            split could not tell, then scores are shown without bands that promise a precision.
        release_id: hex, or ``local``.
        kind: what it scores, ``listing`` or ``shop``.
        head: setting of the personal head, None without one.
    """

    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)
    calibration: Calibration | None
    release_id: str
    kind: str
    head: str | None = None


def active_model(state_dir: Path) -> LoadedModel | None:
    """Return the model that runs at this member, or None.

    Raises:
        VerificationError: ``active.json``, the model, its transcript or its head is not what it
            was when it was activated.
        NotFound: one of the model's files is gone.
    """
    active = read_state(state_dir / MODELS).active
    return None if active is None else load_activation(state_dir, active)


def load_activation(state_dir: Path, activation: Activation) -> LoadedModel:
    """Load the model of one activation; raises as :func:`active_model`."""
    calibration = activation.calibration
    model = _load(state_dir, activation)
    vector, setting = model.vector, None
    own = load_head(state_dir, activation)
    if own is not None:
        vector = own.applied(activation.release_id, activation.sha256, model.spec, vector)
        setting = own.head.setting
    return LoadedModel(
        spec=model.spec,
        vector=vector,
        calibration=None if calibration is None else Calibration.from_dict(calibration),
        release_id=activation.release_id,
        kind=activation.kind,
        head=setting,
    )


def load_head(state_dir: Path, activation: Activation) -> HeadFile | None:
    """Load the personal head of one activation, if it has one; raises as :func:`active_model`."""
    if activation.head is None:
        return None
    head = activation.head
    return HeadFile.decode(read_checked(state_dir / MODELS / head.path, head.sha256))


def _load(state_dir: Path, activation: Activation) -> LocalModel | VerifiedBundle:
    path = state_dir / MODELS / activation.path
    if activation.release_id == LOCAL_ID:
        return LocalModel.decode(read_checked(path, activation.sha256))
    data = read_checked(path / FILE_NAME, activation.sha256)
    bundle = verify_release(state_dir, data, bytes.fromhex(activation.release_id))
    verify_transcript(state_dir, bundle, _read(path / TRANSCRIPT_NAME))
    return bundle


def read_checked(path: Path, sha256: str) -> bytes:
    """Return a model file whose digest is known.

    Raises:
        NotFound: it is gone.
        BundleDigestError: it is another one.
    """
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleDigestError(
            "the active model's file was changed after it was activated", hint=_REPAIR
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"the active model's file {path.name} is gone", hint=_REPAIR) from error


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


def verify_transcript(state_dir: Path, bundle: VerifiedBundle, data: bytes) -> Transcript:
    """Verify the transcript that a bundle cites, down to the model its last round left.

    Raises:
        VerificationError: it is not that one, or not whole; see
            :meth:`~shared.trust.transcript.UnverifiedTranscript.verify`.
    """
    alliance = NodeConfig.load(state_dir).alliance
    manifest = bundle.manifest
    transcript = UnverifiedTranscript(data).verify(
        bytes.fromhex(alliance.coordinator_public_key),
        run_id=manifest.run_id,
        manifest_hash=manifest.run_manifest_hash,
        head=manifest.transcript_head,
    )
    transcript.check_model(bundle.vector)
    return transcript
