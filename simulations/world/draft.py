"""A listing while the story is being told: what everybody sees, and what only the truth knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from simulations.world.catalogue import Product
from simulations.world.sellers import Seller
from simulations.world.writing import Wording


@dataclass
class Draft:
    """One listing before it becomes a row.

    Attributes:
        kind: an honest kind, or the mechanism of a counterfeit.
        price: asked, in euro.
        photos: image hashes.
        signals: further observations, by name.
        listing_id: given once all of a member's listings are in the order of time.
    """

    week: int
    created_at: datetime
    updated_at: datetime
    kind: str
    counterfeit: bool
    product: Product
    seller: Seller
    language: str
    wording: Wording
    price: float
    quantity: int
    ship_from: str
    marketplace: str
    photos: list[str]
    signals: dict[str, float | int | str | None]
    orders: int
    tactic_id: str | None = None
    brand_given: bool = True
    missing: frozenset[str] = field(default_factory=frozenset)
    listing_id: str = ""
