"""The release bundle: safetensors weights and a signed canonical manifest in one file.

Nothing in a bundle can execute: safetensors is a JSON header and raw numbers, the manifest is
fixed-order binary, and there is no pickle anywhere. The types carry the trust:
:class:`UnverifiedBundle` gives nothing but :meth:`~UnverifiedBundle.verify`, and only the
:class:`VerifiedBundle` that it returns gives weights.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from numpy.typing import NDArray
from safetensors import SafetensorError

from shared.encoding import Reader, Writer
from shared.errors import MalformedMessage, NotFound, StorageError
from shared.limits import MAX_BUNDLE_BYTES, MAX_BUNDLE_MANIFEST_BYTES
from shared.model.bundle_errors import (
    BundleDigestError,
    BundleModelError,
    BundleOriginError,
    BundleSignatureError,
    FeatureSpaceError,
    ReleaseRollbackError,
)
from shared.model.bundle_manifest import BundleManifest
from shared.model.layout import ModelSpec, check_vector, feature_space_hash

DOMAIN = "touchstone/bundle/file"
FILE_NAME = "release.bundle"
TENSOR = "vector"
_SIGNATURE_BYTES = 64
_SEAL: Final = object()


def seal_bundle(
    manifest: BundleManifest, vector: NDArray[np.float32], signing_key: Ed25519PrivateKey
) -> bytes:
    """Return the bytes of a signed bundle; ``weights_sha256`` is filled in here.

    Args:
        manifest: the statement to sign.
        vector: float32[P], the whole model in the order of ``shared.model.layout``.
        signing_key: the coordinator's release-signing key.

    Raises:
        ValueError: the manifest is not canonical.
        UnknownModel: the vector does not fit the manifest's model, or is not finite.
    """
    check_vector(ModelSpec.decode(manifest.model_spec), vector)
    weights = safetensors.numpy.save({TENSOR: np.ascontiguousarray(vector, dtype="<f4")})
    signed = replace(manifest, weights_sha256=hashlib.sha256(weights).digest()).encode()
    writer = Writer(DOMAIN).blob(signed).fixed(signing_key.sign(signed), _SIGNATURE_BYTES)
    return writer.blob(weights).done()


@dataclass(frozen=True, repr=False)
class UnverifiedBundle:
    """Bytes that claim to be a release; nothing in them may be used before :meth:`verify`."""

    _manifest: bytes
    _signature: bytes
    _weights: bytes

    @classmethod
    def read(cls, source: Path | bytes) -> UnverifiedBundle:
        """Split a bundle into its parts.

        Args:
            source: the bundle's bytes, its file, or the folder that holds ``release.bundle``.

        Raises:
            NotFound: there is no such file.
            MalformedMessage: the bytes are not a bundle, or larger than any bundle may be.
        """
        data = source if isinstance(source, bytes) else _read_file(source)
        if len(data) > MAX_BUNDLE_BYTES:
            raise MalformedMessage("the bundle is larger than any model may be")
        reader = _opened(data)
        manifest = reader.blob(MAX_BUNDLE_MANIFEST_BYTES)
        signature = reader.fixed(_SIGNATURE_BYTES)
        weights = reader.blob(MAX_BUNDLE_BYTES)
        reader.end()
        return cls(manifest, signature, weights)

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest's canonical encoding as it was signed; to be filed, not believed."""
        return self._manifest

    def verify(
        self,
        coordinator_public_key: bytes,
        *,
        expected_feature_space: bytes | None,
        min_sequence: int,
        alliance_id: bytes | None = None,
        release_id: bytes | None = None,
    ) -> VerifiedBundle:
        """Check everything and return the bundle that may be used.

        Args:
            coordinator_public_key: raw Ed25519 key, 32 bytes, pinned when the member joined.
            expected_feature_space: 32 bytes to find in the manifest; None asks for the space
                that this software computes for the bundle's model, as every scorer must.
            min_sequence: the lowest acceptable sequence number: one above the highest that
                was ever active here.
            alliance_id: when given, the alliance the bundle must belong to.
            release_id: when given, the release it must be.

        Raises:
            BundleSignatureError: not signed by that key.
            BundleVersionError: a newer format.
            BundleOriginError: another alliance or release.
            FeatureSpaceError: another feature space.
            ReleaseRollbackError: a sequence number below ``min_sequence``.
            BundleDigestError: the weights are not those of the manifest.
            BundleModelError: the weights are not one safetensors tensor named ``vector``.
            UnknownModel: this software cannot run the model, or the weights do not fit it.
            MalformedMessage: the signed manifest does not decode.
        """
        _check_signature(coordinator_public_key, self._signature, self._manifest)
        manifest = BundleManifest.decode(self._manifest)
        _check_origin(manifest, alliance_id, release_id)
        spec = ModelSpec.decode(manifest.model_spec)
        if manifest.feature_space_hash != (expected_feature_space or feature_space_hash(spec)):
            raise FeatureSpaceError(
                "the model was trained in another feature space than this software computes",
                hint="upgrade touchstone to the version the alliance trains with",
            )
        if manifest.sequence < min_sequence:
            raise ReleaseRollbackError(
                f"release number {manifest.sequence} is not newer than number {min_sequence - 1},"
                " which was judged or active before",
                hint="`model rollback` goes one step back on purpose, and `model activate` takes "
                "the newest release that ran here again",
            )
        if hashlib.sha256(self._weights).digest() != manifest.weights_sha256:
            raise BundleDigestError(
                "the weights are not those that the manifest names",
                hint="fetch the release again",
            )
        vector = check_vector(spec, _load_vector(self._weights))
        return VerifiedBundle(_SEAL, manifest, spec, vector)


class VerifiedBundle:
    """A release that passed every check; made by :meth:`UnverifiedBundle.verify` alone."""

    def __init__(
        self,
        seal: object,
        manifest: BundleManifest,
        spec: ModelSpec,
        vector: NDArray[np.float32],
    ) -> None:
        if seal is not _SEAL:
            raise TypeError("a VerifiedBundle comes from UnverifiedBundle.verify")
        vector.setflags(write=False)
        self.manifest = manifest
        self.spec = spec
        self._vector = vector

    @property
    def vector(self) -> NDArray[np.float32]:
        """The model, float32[P], read-only, in the order of ``shared.model.layout``."""
        return self._vector


def _opened(data: bytes) -> Reader:
    try:
        return Reader(data, DOMAIN)
    except MalformedMessage as error:
        raise MalformedMessage(
            "this is no release bundle", hint="name a release.bundle file", detail=error.message
        ) from error


def _read_file(path: Path) -> bytes:
    file = path / FILE_NAME if path.is_dir() else path
    try:
        if file.stat().st_size > MAX_BUNDLE_BYTES:
            raise MalformedMessage("the bundle is larger than any model may be")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no bundle at {file}") from error
    except OSError as error:
        raise StorageError(f"cannot read {file.name}", detail=str(error)) from error


def _check_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BundleSignatureError(
            "the bundle is not signed by this alliance's coordinator",
            hint="do not use it; fetch the release again and tell the operator if it stays",
        ) from error


def _check_origin(
    manifest: BundleManifest, alliance_id: bytes | None, release_id: bytes | None
) -> None:
    if alliance_id not in (None, manifest.alliance_id):
        raise BundleOriginError("the bundle belongs to another alliance")
    if release_id not in (None, manifest.release_id):
        raise BundleOriginError("the bundle is not the release that was asked for")


def _load_vector(weights: bytes) -> NDArray[np.float32]:
    try:
        tensors = safetensors.numpy.load(weights)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleModelError("the weights are not a safetensors file") from error
    if set(tensors) != {TENSOR}:
        raise BundleModelError(f"the weights hold other tensors than {TENSOR!r}")
    return np.asarray(tensors[TENSOR])
