"""A bundle is refused for any flipped byte, and says what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.encoding import Writer
from shared.errors import Exit, MalformedMessage, NotFound, VerificationError
from shared.model import bundle as bundle_module
from shared.model.bundle import UnverifiedBundle, VerifiedBundle, seal_bundle
from shared.model.bundle_errors import (
    BundleDigestError,
    BundleModelError,
    BundleOriginError,
    BundleSignatureError,
    BundleVersionError,
    FeatureSpaceError,
    ReleaseRollbackError,
)
from shared.model.bundle_manifest import BundleManifest, decimal_text, metric_pairs
from shared.model.layout import ModelSpec, UnknownModel, feature_space_hash
from tests.support.release import KEY, PUBLIC, TINY, a_bundle, a_manifest, a_vector


def verify(data: bytes, *, min_sequence: int = 1, **expected: bytes | None) -> VerifiedBundle:
    expected.setdefault("expected_feature_space", feature_space_hash(TINY))
    return UnverifiedBundle.read(data).verify(PUBLIC, min_sequence=min_sequence, **expected)


def raw_bundle(manifest: bytes, weights: bytes, key: Ed25519PrivateKey = KEY) -> bytes:
    """Frame and sign arbitrary parts, as a hostile coordinator could."""
    writer = Writer(bundle_module.DOMAIN).blob(manifest).fixed(key.sign(manifest), 64)
    return writer.blob(weights).done()


def test_round_trip_gives_the_same_model_and_manifest():
    verified = verify(a_bundle())
    np.testing.assert_array_equal(verified.vector, a_vector())
    assert verified.spec == TINY
    assert verified.manifest.metrics == (("pr_auc", "0.713000"), ("roc_auc", "0.950000"))
    assert verified.manifest.sequence == 3


def test_same_input_gives_the_same_bytes():
    assert a_bundle() == a_bundle()


def test_every_flipped_byte_is_refused_with_exit_code_7():
    data = a_bundle()
    verify(data)
    outcomes = {exit_code_of(data, at) for at in range(len(data))}
    assert outcomes == {Exit.VERIFICATION}


def exit_code_of(data: bytes, flipped_at: int) -> Exit:
    altered = bytearray(data)
    altered[flipped_at] ^= 1 << (flipped_at % 8)
    try:
        verify(bytes(altered))
    except VerificationError as error:
        return error.exit_code
    return Exit.OK


@pytest.mark.parametrize("cut", [0, 1, 30, 200, 500, -1])
def test_truncation_is_refused(cut):
    data = a_bundle()
    with pytest.raises(MalformedMessage):
        UnverifiedBundle.read(data[:cut])


def test_bytes_after_the_end_are_refused():
    with pytest.raises(MalformedMessage):
        UnverifiedBundle.read(a_bundle() + b"\0")


def test_another_key_is_refused():
    other = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    with pytest.raises(BundleSignatureError):
        verify(a_bundle(key=other))


def test_a_public_key_of_the_wrong_length_is_refused():
    with pytest.raises(BundleSignatureError):
        UnverifiedBundle.read(a_bundle()).verify(
            PUBLIC[:31], expected_feature_space=None, min_sequence=1
        )


def test_another_alliance_or_release_is_refused():
    with pytest.raises(BundleOriginError):
        verify(a_bundle(), alliance_id=b"b" * 16)
    with pytest.raises(BundleOriginError):
        verify(a_bundle(), release_id=b"q" * 16)
    verify(a_bundle(), alliance_id=b"a" * 16, release_id=b"r" * 16)


def test_another_feature_space_is_refused():
    with pytest.raises(FeatureSpaceError):
        verify(a_bundle(feature_space_hash=b"f" * 32))
    with pytest.raises(FeatureSpaceError):
        verify(a_bundle(feature_space_hash=b"f" * 32), expected_feature_space=None)
    with pytest.raises(FeatureSpaceError):
        verify(a_bundle(), expected_feature_space=b"f" * 32)


def test_an_old_sequence_number_is_refused():
    verify(a_bundle(sequence=3), min_sequence=3)
    with pytest.raises(ReleaseRollbackError):
        verify(a_bundle(sequence=3), min_sequence=4)


def test_weights_swapped_under_a_valid_manifest_are_refused():
    manifest = BundleManifest.decode(UnverifiedBundle.read(a_bundle())._manifest).encode()
    other = safetensors.numpy.save({"vector": a_vector(seed=8)})
    with pytest.raises(BundleDigestError):
        verify(raw_bundle(manifest, other))


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (b"not safetensors", BundleModelError),
        (b"\x80\x04\x95pickle", BundleModelError),
        (safetensors.numpy.save({"other": a_vector()}), BundleModelError),
        (safetensors.numpy.save({"vector": a_vector(), "x": a_vector()}), BundleModelError),
        (safetensors.numpy.save({"vector": a_vector()[:-1].copy()}), UnknownModel),
        (safetensors.numpy.save({"vector": a_vector().astype(np.float64)}), UnknownModel),
        (safetensors.numpy.save({"vector": np.full_like(a_vector(), np.nan)}), UnknownModel),
    ],
)
def test_even_signed_weights_must_fit_the_model(weights, error):
    import hashlib

    manifest = a_manifest(weights_sha256=hashlib.sha256(weights).digest()).encode()
    with pytest.raises(error):
        verify(raw_bundle(manifest, weights))


def test_a_newer_format_asks_for_an_upgrade():
    manifest = bytearray(a_manifest().encode())
    at = 4 + len("touchstone/bundle/manifest") + 3
    assert manifest[at] == 1
    manifest[at] = 2
    with pytest.raises(BundleVersionError) as caught:
        verify(raw_bundle(bytes(manifest), b""))
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": (("b", "1"), ("a", "1"))},
        {"metrics": (("a", "1"), ("a", "1"))},
        {"metrics": (("a", "1e3"),)},
        {"metrics": (("a", "nan"),)},
        {"metrics": (("a", "01"),)},
        {"metrics": (("a", "1\n"),)},
        {"metrics": (("A", "1"),)},
        {"epsilon": "lots"},
        {"sequence": 0},
        {"kind": "person"},
        {"parent_release_id": b"short"},
        {"release_id": b"short"},
    ],
)
def test_a_manifest_that_is_not_canonical_cannot_be_sealed(changes):
    with pytest.raises(ValueError):
        a_bundle(**changes)


def test_a_model_of_the_wrong_size_cannot_be_sealed():
    with pytest.raises(UnknownModel):
        seal_bundle(a_manifest(), a_vector(ModelSpec(hash_bits=11)), KEY)


def test_a_parent_and_epsilon_are_optional():
    assert verify(a_bundle(parent_release_id=b"", epsilon="")).manifest.epsilon == ""


def test_only_verify_makes_a_verified_bundle():
    with pytest.raises(TypeError):
        VerifiedBundle(object(), a_manifest(), TINY, a_vector())


def test_verified_weights_cannot_be_written_to():
    with pytest.raises(ValueError):
        verify(a_bundle()).vector[0] = 1


def test_reads_a_file_or_its_folder(tmp_path):
    (tmp_path / bundle_module.FILE_NAME).write_bytes(a_bundle())
    for path in (tmp_path, tmp_path / bundle_module.FILE_NAME):
        UnverifiedBundle.read(path).verify(PUBLIC, expected_feature_space=None, min_sequence=1)
    with pytest.raises(NotFound):
        UnverifiedBundle.read(tmp_path / "nothing")


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "big"
    file.write_bytes(a_bundle())
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(MalformedMessage):
        UnverifiedBundle.read(file)
    with pytest.raises(MalformedMessage):
        UnverifiedBundle.read(a_bundle())


def test_decimal_text_is_canonical():
    assert metric_pairs({"b": 1, "a": -0.5}) == (("a", "-0.500000"), ("b", "1.000000"))
    with pytest.raises(ValueError):
        decimal_text(float("nan"))


@pytest.mark.parametrize("data", [b"", b"localhost\n", bytes(100), b"\xff" * 1000, b"PK\x03\x04"])
def test_what_is_no_bundle_is_called_so(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="this is no release bundle") as caught:
        UnverifiedBundle.read(data)
    assert "release.bundle" in caught.value.hint
