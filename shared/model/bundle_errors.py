"""What can be wrong with a release bundle; each is a failed verification with its own code."""

from __future__ import annotations

from shared.errors import VerificationError


class BundleSignatureError(VerificationError):
    """The manifest is not signed by this alliance's coordinator."""

    code = "bundle_signature"


class BundleDigestError(VerificationError):
    """The weights are not those that the manifest names."""

    code = "bundle_digest"


class BundleVersionError(VerificationError):
    """The bundle's format is newer than this software."""

    code = "bundle_version"


class BundleOriginError(VerificationError):
    """The bundle belongs to another alliance, run or release than the one asked for."""

    code = "bundle_origin"


class BundleModelError(VerificationError):
    """The weights are not one safetensors tensor with the model's name."""

    code = "bundle_model"


class FeatureSpaceError(VerificationError):
    """The model was trained in another feature space than this software computes."""

    code = "feature_space"


class ReleaseRollbackError(VerificationError):
    """The release is older than, or the same as, one that was active before."""

    code = "release_rollback"
