"""How honest and counterfeit offers differ: rates, price laws and mechanisms.

Prices are relative to the list price, as (median, log-scale) of a log-normal. The numbers were
chosen so that no single one of them gives a counterfeit away; `tests` hold them to that.
"""

from __future__ import annotations

from dataclasses import dataclass

Law = tuple[float, float]


@dataclass(frozen=True)
class Honest:
    """One kind of honest offer.

    Attributes:
        share: among honest listings.
        price: relative price law.
        code_words: probability of a code word used innocently.
        jargon: mean number of phrases that counterfeiters favour.
        silent: probability that the give-away word ("used", "outlet") is left out.
    """

    share: float
    price: Law
    code_words: float = 0.008
    jargon: float = 0.32
    silent: float = 0.4


HONEST: dict[str, Honest] = {
    "new": Honest(0.515, (0.95, 0.13), jargon=0.27),
    "used": Honest(0.165, (0.50, 0.35), jargon=0.85, silent=0.35),
    "outlet": Honest(0.09, (0.65, 0.20), jargon=0.9, silent=0.45),
    "grey": Honest(0.07, (0.75, 0.15), 0.012, jargon=0.95, silent=0.5),
    "accessory": Honest(0.09, (0.08, 0.50), 0.015, silent=0.3),
    "refurbished": Honest(0.02, (0.60, 0.20), jargon=0.6),
    "bundle": Honest(0.015, (1.20, 0.25)),
    "inspired": Honest(0.015, (0.20, 0.50), 0.08, jargon=1.0, silent=0.3),
    "warns": Honest(0.008, (0.97, 0.10), silent=0.0),
    "angry": Honest(0.012, (0.95, 0.13)),
}
"""``warns`` warns of fakes; ``angry`` is genuine but draws reviews that say otherwise."""

HARD_NEGATIVES = frozenset(HONEST) - {"new"}


@dataclass(frozen=True)
class Mechanism:
    """One way to sell a counterfeit.

    Attributes:
        price: relative price law.
        code_words: probability that a code word of the tactic is written.
        jargon: probability of each phrase of the tactic.
        aged: probability that the account is an old one (bought or hijacked).
    """

    price: Law
    code_words: float
    jargon: float
    aged: float = 0.45


MECHANISMS: dict[str, Mechanism] = {
    "overt": Mechanism((0.20, 0.40), 0.60, 0.80, aged=0.35),
    "deceptive": Mechanism((0.80, 0.15), 0.26, 0.76),
    "hijacked": Mechanism((0.68, 0.22), 0.12, 0.45, aged=1.0),
    "hidden_link": Mechanism((0.14, 0.55), 0.40, 0.70),
    "commingled": Mechanism((0.93, 0.12), 0.02, 0.10, aged=0.8),
    "refill": Mechanism((0.58, 0.22), 0.12, 0.70),
    "component": Mechanism((0.36, 0.35), 0.30, 0.70),
}

_LUXURY = {"overt": 0.40, "deceptive": 0.40, "hijacked": 0.09, "hidden_link": 0.07,
           "commingled": 0.04}  # fmt: skip
_TECHNICAL = {"overt": 0.17, "deceptive": 0.43, "hijacked": 0.09, "commingled": 0.08,
              "component": 0.23}  # fmt: skip

MECHANISM_MIX: dict[str, dict[str, float]] = {
    "bags": _LUXURY,
    "watches": _LUXURY,
    "sneakers": {**_LUXURY, "overt": 0.35, "deceptive": 0.45},
    "audio": _TECHNICAL,
    "parts": _TECHNICAL,
    "outdoor": {"overt": 0.30, "deceptive": 0.50, "hijacked": 0.10, "hidden_link": 0.05,
                "commingled": 0.05},
    "cosmetics": {"overt": 0.18, "deceptive": 0.36, "hijacked": 0.06, "commingled": 0.10,
                  "refill": 0.30},
    "toys": {"overt": 0.30, "deceptive": 0.50, "hijacked": 0.08, "commingled": 0.12},
}  # fmt: skip

OBFUSCATION = 0.25
"""Probability that a tactic's listing hides its brand or code word."""

OBFUSCATION_AFTER_DETECTION = 0.40
"""The same after the tactic was caught and came back."""

HONEST_TYPO = 0.03
"""Probability that an honest seller mistypes the brand."""

INNOCENT_GLYPH = 0.003
"""Probability that an honest text carries a copied zero-width or foreign character."""

DECORATED = 0.05
"""Probability that an honest title is decorated."""

DECORATED_TACTIC = 0.7
"""Probability that a listing follows the title template of its tactic."""

LONE = 0.08
"""Share of counterfeits that follow no tactic."""

# Account age in days at the first listing: (median, log-scale) of young and of aged accounts.
HONEST_AGE: tuple[float, Law, Law] = (0.20, (60.0, 0.9), (800.0, 1.0))
FAKE_AGE: tuple[Law, Law] = ((60.0, 1.0), (700.0, 0.8))

# Beta laws of an account's return rate, and of the share of orders that draw a complaint.
HONEST_RETURNS: tuple[float, float] = (1.0, 45.0)
FAKE_RETURNS: tuple[float, float] = (1.2, 22.0)
