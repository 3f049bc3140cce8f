"""What identifies the feature space: hash key, version, fields and numeric grid.

The feature space is part of the model's identity. Change anything here that changes a token
and :data:`FEATURE_VERSION` must grow, because an old model read with new tokens is noise.
Standard library only: the coordinator names the space without being able to compute features.
"""

from __future__ import annotations

import hashlib

FEATURE_VERSION = 1

HASH_KEY = hashlib.sha256(b"touchstone/features/v1").digest()[:16]
"""Key of the token hash, 128 bits, public: it versions the space, it hides nothing."""

FIELDS = ("title", "description", "seller_name", "host", "category", "numeric", "derived")
"""Groups of tokens, in the order in which they are emitted."""

CHAR_NGRAMS = (3, 5)
"""Shortest and longest character n-gram, in code points."""

WORD_NGRAMS = (1, 2)
"""Shortest and longest word n-gram."""

GRID_UNIT = 1e-3
GRID_STEP = 0.5
"""Numbers lie on the grid ``sign(x) * log1p(|x| / GRID_UNIT) / GRID_STEP`` (docs: DOMAIN)."""

GRID_LIMIT = 80
"""Largest grid position: |x| near 2e14, beyond which numbers are clamped."""


def space_fields() -> tuple[str, ...]:
    """Return everything that fixes the space apart from its size, as stable text."""
    return (
        f"version={FEATURE_VERSION}",
        f"key={HASH_KEY.hex()}",
        f"fields={','.join(FIELDS)}",
        f"char={CHAR_NGRAMS[0]}-{CHAR_NGRAMS[1]}",
        f"word={WORD_NGRAMS[0]}-{WORD_NGRAMS[1]}",
        f"grid={GRID_UNIT!r}/{GRID_STEP!r}/{GRID_LIMIT}",
    )
