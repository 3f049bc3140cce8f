"""Invented brands and their products. No name is, or resembles, a real trademark."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.world.draws import Draws

BRANDS: dict[str, tuple[str, ...]] = {
    "bags": ("Veltrine", "Casorelle", "Ondravi", "Maruvane"),
    "audio": ("Tonvara", "Klyrex", "Sonedra", "Hibaro"),
    "outdoor": ("Felsgrat", "Nordwyn", "Karvenn", "Almtreka"),
    "cosmetics": ("Luzmira", "Dermovane", "Floravenne", "Pelunara"),
    "watches": ("Aurivex", "Temporane", "Orbistal", "Halvern"),
    "sneakers": ("Stridonis", "Runavik", "Kaskadro", "Zentrakon"),
    "toys": ("Pindolo", "Brixaro", "Wumbelin", "Kidoraf"),
    "parts": ("Axwerra", "Motovane", "Brakkor", "Filtraxo"),
}
"""Category -> brands; the first is the flagship that most listings offer."""

CATEGORIES = tuple(BRANDS)

# Median list price in euro.
LIST_PRICE = {
    "bags": 620.0,
    "audio": 140.0,
    "outdoor": 210.0,
    "cosmetics": 62.0,
    "watches": 480.0,
    "sneakers": 125.0,
    "toys": 55.0,
    "parts": 48.0,
}

EURO_RATE = {"EUR": 1.0, "USD": 1.1, "CNY": 7.8, "GBP": 0.86}
"""Units of a currency for one euro, fixed for the whole world."""

_SYLLABLES = (
    "ba",
    "lo",
    "ri",
    "ven",
    "tor",
    "mi",
    "sa",
    "quo",
    "del",
    "ny",
    "ka",
    "zu",
    "fen",
    "ar",
)


@dataclass(frozen=True)
class Product:
    """One article of a brand.

    Attributes:
        noun: index into the category's nouns, the same in every language.
        list_price: recommended price in euro.
        photo: hash of the manufacturer's own picture, which honest sellers reuse.
    """

    brand: str
    model: str
    category: str
    noun: int
    list_price: float
    photo: str


def products(category: str, draws: Draws, *, per_brand: int = 8) -> list[Product]:
    """Draw the articles of every brand of ``category``; earlier brands come first."""
    return [
        Product(
            brand=brand,
            model="".join(draws.choice(_SYLLABLES) for _ in range(2)).capitalize(),
            category=category,
            noun=draws.randrange(6),
            list_price=round(draws.around(LIST_PRICE[category], 0.45), 2),
            photo=draws.token(16),
        )
        for brand in BRANDS[category]
        for _ in range(per_brand)
    ]
