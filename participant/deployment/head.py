"""A member's personal head on disk: beside the release, never in it; checked by its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from participant.deployment.candidate import Candidate
from participant.deployment.own_files import keep_file
from participant.training.personal import Head
from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage
from shared.limits import MAX_BUNDLE_BYTES
from shared.model.layout import ModelSpec, feature_space_hash

DOMAIN = "touchstone/personal-head/v1"
FOLDER = "heads"
_PLACES, _VALUES = "places", "values"


@dataclass(frozen=True)
class HeadFile:
    """A head and the one model it belongs to.

    Attributes:
        release_id: 16 bytes.
        bundle_sha256: digest of the release's file; on top of another one the head means nothing.
        spec: the release's shape.
        head: the change.
    """

    release_id: bytes
    bundle_sha256: bytes
    spec: ModelSpec
    head: Head = field(repr=False)

    def encode(self) -> bytes:
        """Return the file's content."""
        tensors = {
            _PLACES: np.ascontiguousarray(self.head.places, dtype="<i8"),
            _VALUES: np.ascontiguousarray(self.head.values, dtype="<f4"),
        }
        writer = Writer(DOMAIN).fixed(self.release_id, 16).fixed(self.bundle_sha256, 32)
        writer.blob(self.spec.encode()).fixed(feature_space_hash(self.spec), 32)
        return writer.text(self.head.setting).blob(safetensors.numpy.save(tensors)).done()

    @classmethod
    def decode(cls, data: bytes) -> HeadFile:
        """Read a file's content.

        Raises:
            MalformedMessage: it is not a head, or of another feature space.
            UnknownModel: this software cannot run its model.
        """
        reader = Reader(data, DOMAIN)
        release_id, bundle = reader.fixed(16), reader.fixed(32)
        spec = ModelSpec.decode(reader.blob(1024))
        if reader.fixed(32) != feature_space_hash(spec):
            raise MalformedMessage("the head belongs to another version's feature space")
        setting, weights = reader.text(64), reader.blob(MAX_BUNDLE_BYTES)
        reader.end()
        try:
            tensors = safetensors.numpy.load(weights)
            places, values = tensors[_PLACES], tensors[_VALUES]
        except (SafetensorError, KeyError, ValueError) as error:
            raise MalformedMessage("the head's weights cannot be read") from error
        if places.dtype != np.int64 or values.dtype != np.float32:
            raise MalformedMessage("the head's weights are of another type")
        return cls(release_id, bundle, spec, Head(places, values, setting))

    def applied(
        self, release_id: str, sha256: str, spec: ModelSpec, vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the release with this head on top, float32[n_params].

        Raises:
            MalformedMessage: the head belongs to another release, or does not fit it.
        """
        if (self.release_id.hex(), self.bundle_sha256.hex()) != (release_id, sha256):
            raise MalformedMessage("the head belongs to another release")
        if self.spec != spec:
            raise MalformedMessage("the head belongs to another model")
        return self.head.apply(spec, vector)


def write_head(models: Path, release: Candidate, head: Head) -> tuple[str, str]:
    """Write a release's head and return its path relative to ``models/`` and its hex digest.

    The file is named after its content, so a head that runs is never overwritten. Heads that no
    activation needs are removed.

    Raises:
        StorageError: the disk refuses; nothing half-written is left.
    """
    release_id, bundle = bytes.fromhex(release.release_id), bytes.fromhex(release.sha256)
    data = HeadFile(release_id, bundle, release.spec, head).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{FOLDER}/{release.release_id}-{sha256[:16]}.head"
    keep_file(models, name, data)
    return name, sha256
