"""A bundle format once released verifies for ever, and fails for ever in the same way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import VerificationError
from shared.model.bundle import UnverifiedBundle, VerifiedBundle
from shared.trust.transcript import model_sha256

FOLDER = Path(__file__).parent / "bundle"
EXPECTED = json.loads((FOLDER / "v1.json").read_text())


def verify(data: bytes) -> VerifiedBundle:
    key = bytes.fromhex(EXPECTED["coordinator_public_key"])
    space = bytes.fromhex(EXPECTED["feature_space_hash"])
    return UnverifiedBundle.read(data).verify(key, expected_feature_space=space, min_sequence=1)


def test_format_1_still_verifies():
    verified = verify((FOLDER / "v1.bundle").read_bytes())
    assert verified.manifest.sequence == EXPECTED["sequence"]
    assert verified.vector.shape == (EXPECTED["n_params"],)
    assert model_sha256(verified.vector).hex() == EXPECTED["vector_sha256"]


@pytest.mark.parametrize("case", EXPECTED["alterations"], ids=lambda case: case["why"])
def test_altered_copies_fail_as_stated(case):
    data = bytearray((FOLDER / "v1.bundle").read_bytes())
    data[case["xor_at"]] ^= 1
    with pytest.raises(VerificationError) as caught:
        verify(bytes(data))
    assert caught.value.code == case["error"]
