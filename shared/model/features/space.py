"""What identifies the feature space: hash key, version, fields and numeric grids.

The feature space is part of the model's identity. Change anything here that changes a token
and :data:`FEATURE_VERSION` must grow, because an old model read with new tokens is noise.
Standard library only: the coordinator names the space without being able to compute features.
"""

from __future__ import annotations

import hashlib

FEATURE_VERSION = 1

HASH_KEY = hashlib.sha256(b"touchstone/features/v1").digest()[:16]
"""Key of the token hash, 128 bits, public: it versions the space, it hides nothing."""

TEXT_CAPS = {"title": 256, "description": 512, "seller_name": 64, "host": 64}
"""Code points read of each text field: bounds the work that a hostile text can cause."""

TEXT_SCALE = {"seller_name": 0.25}
"""L2 length of a text field where it is not 1. A seller's name mostly identifies the seller, and
sellers of fakes change theirs: at full length the model learns names instead of conduct."""

LISTING_CATEGORIES = ("marketplace", "brand", "language", "category", "currency", "ship_from")
LISTING_NUMBERS = ("price", "list_price", "quantity", "seller_rating")
LISTING_DERIVED = (
    "price_ratio",
    "seller_age_days",
    "listing_complaints",
    "listing_fake_claims",
    "seller_complaints",
    "seller_fake_rate",
    "image_count",
    "image",
    "brand_match",
)
SHOP_DERIVED = ("shop_age_days",)

COMPACT_SCALE = {
    "seller_complaints": 0.0,
    "seller_fake_rate": 0.0,
    "image": 0.0,
    "seller_name": 0.0,
    "marketplace": 0.0,
    "language": 0.0,
    "category": 0.0,
    "currency": 0.0,
    "brand": 0.3,
    "ship_from": 0.5,
    "brand_match": 0.5,
    "listing_complaints": 0.3,
    "listing_fake_claims": 0.3,
    "description": 2.0,
}
"""Weight of a field in the compact model where it is not 1, before the common length.

Differential privacy bounds what one record changes, so the compact model goes without what other
records have a part in: one complaint would change the features of all listings of a seller. The
other scales spend the length where it helps. Under noise a token of a few records (an image, a
seller's name) cannot be learned, and one of nearly all of them (a currency) tells nothing apart. A
description has three times the words of a title, so that its length goes further."""

COMPACT_LENGTH = 8.0
"""L2 length of a record in the compact model, eight times the clip of its gradient. No record
counts for more than an eighth of a mistake, so a missed fake counts in full until the model is
nearly sure of it, and what is left of the clip stands that much higher above the noise."""

COMPACT_SIGNAL_WORD = 0.5
"""Weight of a signal's category or missing value: it may be an identity (a payee)."""

COMPACT_RAW = 0.5
"""Weight of text as it was written, on top of its field's: most of it repeats the folded text."""

CHAR_NGRAMS = (3, 5)
"""Shortest and longest character n-gram, in code points."""

WORD_NGRAMS = (1, 2)
"""Shortest and longest word n-gram; every Han, Hiragana or Katakana character is a word."""

GRID_UNIT = 1e-3
GRID_STEP = 0.5
"""Numbers lie on the grid ``sign(x) * log1p(|x| / GRID_UNIT) / GRID_STEP``."""

GRID_LIMIT = 80
"""Largest grid position: |x| near 2e14, beyond which numbers are clamped."""

RATIO_STEP = 0.1
RATIO_LIMIT = 3.0
"""A price relative to list price lies on a linear grid: replicas at .75 and genuine goods at .95
are one step apart on the logarithmic one."""


def space_fields() -> tuple[str, ...]:
    """Return everything that fixes the space apart from its size, as stable text."""
    listing = (*LISTING_CATEGORIES, *LISTING_NUMBERS, *LISTING_DERIVED)
    return (
        f"version={FEATURE_VERSION}",
        f"key={HASH_KEY.hex()}",
        f"text={','.join(f'{name}:{cap}' for name, cap in TEXT_CAPS.items())}",
        f"scale={','.join(f'{name}:{scale}' for name, scale in TEXT_SCALE.items())}",
        f"listing={','.join(listing)}",
        f"shop={','.join(SHOP_DERIVED)}",
        f"char={CHAR_NGRAMS[0]}-{CHAR_NGRAMS[1]}",
        f"word={WORD_NGRAMS[0]}-{WORD_NGRAMS[1]}",
        f"grid={GRID_UNIT!r}/{GRID_STEP!r}/{GRID_LIMIT}",
        f"ratio={RATIO_STEP!r}/{RATIO_LIMIT!r}",
    )


def compact_fields() -> tuple[str, ...]:
    """Return what the space of a compact model has in addition, as stable text."""
    scales = ",".join(f"{name}:{scale}" for name, scale in COMPACT_SCALE.items())
    return (
        f"compact={scales}",
        f"compact-signal-word={COMPACT_SIGNAL_WORD!r}",
        f"compact-raw={COMPACT_RAW!r}",
        f"length={COMPACT_LENGTH!r}",
    )
