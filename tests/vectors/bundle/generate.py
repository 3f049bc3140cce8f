"""Writes `v1.bundle` and its list of expected results; run it once for a new format only.

A bundle format once released verifies for ever: these bytes are never written again for a
format that is out. `python -m tests.vectors.bundle.generate` refuses to overwrite.
"""

from __future__ import annotations

import json
from pathlib import Path

from shared.model.bundle import UnverifiedBundle
from shared.model.bundle_manifest import VERSION
from shared.trust.transcript import model_sha256
from tests.support.release import PUBLIC, TINY, a_bundle, a_vector

HERE = Path(__file__).parent
FEATURE_SPACE = b"f" * 32  # no real one: the format outlives every feature space


def expectations(data: bytes) -> dict[str, object]:
    """Return what a reader must find, and how it must fail on altered copies."""
    signature_at = data.index(a_bundle_signature(data))
    return {
        "provenance": "tests/vectors/bundle/generate.py; Ed25519 seed is bytes 00..1f",
        "format": VERSION,
        "coordinator_public_key": PUBLIC.hex(),
        "feature_space_hash": FEATURE_SPACE.hex(),
        "sequence": 3,
        "n_params": TINY.n_params,
        "vector_sha256": model_sha256(a_vector()).hex(),
        "alterations": [
            {"xor_at": 8, "error": "malformed", "why": "the file's domain string"},
            {"xor_at": 60, "error": "bundle_signature", "why": "the signed manifest"},
            {"xor_at": signature_at, "error": "bundle_signature", "why": "the signature"},
            {"xor_at": len(data) - 1, "error": "bundle_digest", "why": "the last weight"},
        ],
    }


def a_bundle_signature(data: bytes) -> bytes:
    """Return the signature part of a bundle made by this generator."""
    return UnverifiedBundle.read(data)._signature


def main() -> None:
    """Write the vector files, unless they are there."""
    target = HERE / f"v{VERSION}.bundle"
    if target.exists():
        raise SystemExit(f"{target.name} is there already, and a released format never changes")
    data = a_bundle(feature_space_hash=FEATURE_SPACE)
    target.write_bytes(data)
    (HERE / f"v{VERSION}.json").write_text(json.dumps(expectations(data), indent=2) + "\n")


if __name__ == "__main__":
    main()
