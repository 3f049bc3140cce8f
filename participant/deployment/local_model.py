"""The member's own local-only model on disk: never signed, never sent, checked by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from participant.deployment.candidate import Candidate
from participant.deployment.own_files import keep_file
from participant.deployment.state import LOCAL_ID
from participant.training.baseline import fit_local
from participant.training.dataset import TrainingSet
from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage, VerificationError
from shared.limits import MAX_BUNDLE_BYTES
from shared.model.layout import ModelSpec, check_vector, feature_space_hash

DOMAIN = "touchstone/local-model/v1"
FOLDER = "local"
_TENSOR = "vector"


@dataclass(frozen=True)
class LocalModel:
    """A model trained on this member's records alone.

    Attributes:
        kind: what it scores, ``listing`` or ``shop``.
        spec: its shape.
        vector: float32[P].
    """

    kind: str
    spec: ModelSpec
    vector: NDArray[np.float32] = field(repr=False)

    def encode(self) -> bytes:
        """Return the file's content."""
        tensors = {_TENSOR: np.ascontiguousarray(self.vector, dtype="<f4")}
        writer = Writer(DOMAIN).text(self.kind).blob(self.spec.encode())
        writer.fixed(feature_space_hash(self.spec), 32)
        return writer.blob(safetensors.numpy.save(tensors)).done()

    @classmethod
    def decode(cls, data: bytes) -> LocalModel:
        """Read a file's content.

        Raises:
            MalformedMessage: it is not a local model, or of another feature space.
            UnknownModel: the values do not fit the model.
        """
        reader = Reader(data, DOMAIN)
        kind, spec = reader.text(32), ModelSpec.decode(reader.blob(1024))
        if reader.fixed(32) != feature_space_hash(spec):
            raise MalformedMessage("the local model belongs to another version's feature space")
        weights = reader.blob(MAX_BUNDLE_BYTES)
        reader.end()
        try:
            vector = safetensors.numpy.load(weights)[_TENSOR]
        except (SafetensorError, KeyError, ValueError) as error:
            raise MalformedMessage("the local model's weights cannot be read") from error
        return cls(kind, spec, check_vector(spec, vector))


def own_model(
    models: Path,
    training_set: TrainingSet,
    kind: str,
    damaged: Callable[[str], None] = lambda _name: None,
) -> Candidate:
    """Return the local-only model of a training set, fitted now unless it was before.

    The file is named after everything the fit depends on, so the same records are not fitted
    twice, and after its content, so a changed byte is noticed and a model that runs is never
    overwritten by another.

    Args:
        models: the ``models/`` folder.
        training_set: the member's records.
        kind: ``listing`` or ``shop``.
        damaged: told the name of a kept model that is not as it was written.

    Raises:
        NothingToTrain: the training part is empty.
        StorageError: the disk refuses.
    """
    fit = _fingerprint(training_set, kind)
    kept = _kept(models / FOLDER, fit, damaged)
    if kept is None:
        fitted = LocalModel(kind, training_set.spec, fit_local(training_set).vector)
        data = fitted.encode()
        kept = fitted, hashlib.sha256(data).hexdigest()
        keep_file(models, own_name(fit, kept[1]), data)
    model, sha256 = kept
    return Candidate(LOCAL_ID, own_name(fit, sha256), sha256, kind, 0, model.spec, model.vector)


def is_fit(path: str, training_set: TrainingSet, kind: str) -> bool:
    """Tell whether a path below ``models/`` names a fit of these records."""
    return path.startswith(f"{FOLDER}/{_fingerprint(training_set, kind)}")


def own_name(fit: str, sha256: str) -> str:
    """Return the path of a local-only model, relative to ``models/``."""
    return f"{FOLDER}/{fit}-{sha256}.model"


def _kept(folder: Path, fit: str, damaged: Callable[[str], None]) -> tuple[LocalModel, str] | None:
    """Return the kept model of a fit and its digest; None if there is none that is whole."""
    for path in sorted(folder.glob(f"{fit}-*.model")):
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            if path.stem == f"{fit}-{sha256}":
                return LocalModel.decode(data), sha256
        except VerificationError:
            pass  # as damaged as one whose digest is another
        damaged(path.name)
    return None


def _fingerprint(training_set: TrainingSet, kind: str) -> str:
    """Return 32 hex digits of what a fit depends on: records, labels, split and model."""
    hasher = hashlib.sha256(kind.encode() + training_set.spec.encode())
    hasher.update(feature_space_hash(training_set.spec))
    matrix, split = training_set.matrix, training_set.split
    for array in (
        *(matrix.indptr, matrix.indices, matrix.data),
        *(training_set.labels, training_set.confidence),
        *(split.train, split.calibration, split.holdout),
    ):
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:32]
