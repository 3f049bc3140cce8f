"""Reasons a person can read, and paste into a notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np

from participant.scoring.attribution import Attribution
from shared.model.features.brand import match_brand
from shared.model.features.fold import fold_column

Row = dict[str, Any]

MIN_SHARE = 0.05
"""Logits below which something is no reason: it moves the risk by about one point in a hundred."""

_TRICKS = {
    "digit": "with digits or signs for letters",
    "lookalike": "with look-alike letters",
    "hidden": "with invisible characters",
    "spaced": "pulled apart",
    "misspelt": "misspelt",
}

_NAMES = {
    "ship_from": "ships from",
    "marketplace": "marketplace:",
    "category": "category:",
    "brand": "brand:",
    "language": "language:",
    "currency": "currency:",
    "quantity": "quantity offered:",
    "seller_rating": "seller rating:",
}


def row_reasons(row: Row, index: int, found: Attribution, as_of: datetime, top: int) -> list[str]:
    """Return up to ``top`` reasons for a record's risk, the strongest first.

    Args:
        row: the canonical record, with the complaint counts of
            :meth:`~shared.model.features.history.History.counts` as further fields.
        index: its row in ``found``.
        found: what moved the logits.
        as_of: the moment of scoring.
        top: most reasons to give.
    """
    values = found.values[index]
    reasons: list[str] = []
    for place in np.argsort(-values, kind="stable"):
        if values[place] < MIN_SHARE or len(reasons) == top:
            break
        feature = found.features[place]
        phrase = found.phrases[feature][index] if feature in found.phrases else ""
        text = _describe(feature, row, phrase, as_of)
        if text and text not in reasons:
            reasons.append(text)
    return reasons


def _describe(feature: str, row: Row, phrase: str, as_of: datetime) -> str:
    if feature in ("title", "description", "seller_name", "host"):
        return _text_reason(feature, row, phrase)
    if feature.startswith("signal."):
        return _signal_reason(feature.removeprefix("signal."), row)
    if feature in _DERIVED:
        return _DERIVED[feature](row, as_of)
    value = row.get(feature)
    name = feature.replace("_", " ")
    return f"no {name} given" if value is None else f"{_NAMES.get(feature, name + ':')} {value}"


def _text_reason(feature: str, row: Row, phrase: str) -> str:
    where = {
        "title": "title contains",
        "description": "description contains",
        "seller_name": "seller's name contains",
        "host": "host name contains",
    }[feature]
    if phrase:
        return f"{where} '{phrase}'"
    return "" if row.get(feature) else f"no {feature.replace('_', ' ')} given"


def _signal_reason(name: str, row: Row) -> str:
    signals = json.loads(row.get("signals") or "{}")
    known = {key.strip().lower(): value for key, value in signals.items()}
    label, value = name.replace("_", " "), known.get(name)
    if value is None:
        return f"{label} is missing"
    return f"{label}: {value:g}" if isinstance(value, int | float) else f"{label}: {value}"


def _price_reason(row: Row, _: datetime) -> str:
    price, full = row.get("price"), row.get("list_price")
    if price is None or not full:
        return "no list price to compare with"
    return f"price {100 * price / full:.0f} % of the list price"


def _money_reason(feature: str) -> Callable[[Row, datetime], str]:
    label = feature.replace("_", " ")

    def reason(row: Row, _: datetime) -> str:
        value = row.get(feature)
        if value is None:
            return f"no {label} given"
        return f"{label} {value:.2f} {row.get('currency') or ''}".rstrip()

    return reason


def _age(since: datetime | None, as_of: datetime) -> int | None:
    return None if since is None or since > as_of else (as_of - since).days


def _seller_age(row: Row, as_of: datetime) -> str:
    days = _age(row.get("seller_created_at"), as_of)
    return "the seller's age is unknown" if days is None else f"seller {days} days old"


def _shop_age(row: Row, as_of: datetime) -> str:
    days = _age(row.get("created_at"), as_of)
    return "the shop's age is unknown" if days is None else f"shop registered {days} days ago"


def _brand_reason(row: Row, _: datetime) -> str:
    brand, title = row.get("brand") or "", row.get("title") or ""
    match = match_brand(title, fold_column([title]).texts()[0], brand)
    if match.kind in _TRICKS:
        return f"'{match.written}' = {brand} {_TRICKS[match.kind]}"
    if match.kind == "absent":
        return f"the title does not name {brand}"
    return "no brand given" if match.kind == "unknown" else ""


def _images(row: Row, _: datetime) -> str:
    return f"{len(row.get('image_hashes') or ())} pictures"


def _known_image(row: Row, _: datetime) -> str:
    return "a picture known from other cases" if row.get("image_hashes") else ""


def _counted(feature: str, words: str) -> Callable[[Row, datetime], str]:
    """Return a reason with its number; that nobody complained is never a reason."""

    def reason(row: Row, _: datetime) -> str:
        count = row.get(feature) or 0
        return f"{words}: {count:.0f}" if count >= 1 else ""

    return reason


def _fake_rate(row: Row, _: datetime) -> str:
    rate = row.get("seller_fake_rate")
    return f"{rate:.2g} fake claims per listing of this seller" if rate and rate > 0 else ""


_DERIVED: dict[str, Callable[[Row, datetime], str]] = {
    "price_ratio": _price_reason,
    "price": _money_reason("price"),
    "list_price": _money_reason("list_price"),
    "seller_age_days": _seller_age,
    "shop_age_days": _shop_age,
    "brand_match": _brand_reason,
    "image_count": _images,
    "image": _known_image,
    "listing_complaints": _counted("listing_complaints", "buyers' complaints about this listing"),
    "listing_fake_claims": _counted("listing_fake_claims", "buyers who call this listing fake"),
    "seller_complaints": _counted("seller_complaints", "buyers' complaints about this seller"),
    "seller_fake_rate": _fake_rate,
}
