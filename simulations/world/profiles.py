"""Who the members are, and how a preset makes them differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from simulations.world.catalogue import CATEGORIES
from simulations.world.config import WorldConfig
from simulations.world.texts import LANGUAGES

Labels = Literal["own", "none", "flipped"]
Format = Literal["csv", "jsonl", "parquet"]


@dataclass(frozen=True)
class Profile:
    """One member's character.

    Attributes:
        categories: weight of each category among its listings.
        languages: weight of each language.
        countries: where its honest sellers ship from, most frequent first.
        prevalence: share of counterfeits among its listings.
        size: its listings a week relative to the configured number.
        missed: share of counterfeits its reviewers take for genuine.
        delay_days: mean time from listing to verdict.
        missing: optional column or signal -> share of listings that lack it.
        labels: ``none`` decides nothing, ``flipped`` swaps the verdicts (a poisoner).
        file_format: of its exports.
    """

    name: str
    categories: dict[str, float]
    languages: dict[str, float]
    countries: tuple[str, ...]
    currency: str
    file_format: Format
    prevalence: float = 0.05
    size: float = 1.0
    missed: float = 0.11
    delay_days: float = 6.0
    missing: dict[str, float] = field(default_factory=dict)
    labels: Labels = "own"


_EVERYTHING = dict.fromkeys(CATEGORIES, 1.0)
_ALL_LANGUAGES = {"en": 3.0, "zh": 1.5, "de": 2.0, "fr": 2.0, "es": 2.0}
_TEN = (
    Profile("veltrine", {"bags": 1}, {"fr": 0.5, "en": 0.5}, ("FR", "IT", "GB"), "EUR", "csv",
            0.065, 0.9, 0.10, 5.0, {"list_price": 0.05}),
    Profile("tonvara", {"audio": 1}, {"zh": 0.45, "en": 0.55}, ("CN", "US", "JP"), "CNY", "jsonl",
            0.06, 1.1, 0.13, 7.0, {"return_rate": 0.3}),
    Profile("felsgrat", {"outdoor": 1}, {"de": 0.65, "en": 0.35}, ("DE", "AT", "CH"), "EUR",
            "parquet", 0.05, 0.9, 0.12, 7.0, {"payee": 0.4, "quantity": 0.2}),
    Profile("luzmira", {"cosmetics": 1}, {"es": 0.55, "en": 0.45}, ("ES", "MX", "US"), "USD",
            "csv", 0.06, 0.9, 0.14, 6.0, {"seller_rating": 0.25, "ship_days": 0.3}),
    Profile("portolan", _EVERYTHING, _ALL_LANGUAGES, ("DE", "US", "CN", "FR", "ES"), "EUR",
            "parquet", 0.05, 1.3, 0.09, 4.0, {"list_price": 0.15}),
    Profile("aurivex", {"watches": 1}, {"en": 0.6, "de": 0.4}, ("CH", "DE", "US"), "USD", "jsonl",
            0.08, 0.7, 0.10, 5.0, {"photos": 0.4}),
    Profile("stridonis", {"sneakers": 1}, {"en": 0.7, "es": 0.3}, ("US", "GB", "ES"), "USD",
            "csv", 0.075, 1.3, 0.12, 6.0),
    Profile("pindolo", {"toys": 1}, {"fr": 0.5, "de": 0.5}, ("FR", "DE", "BE"), "EUR", "parquet",
            0.035, 0.6, 0.15, 8.0, {"seller_rating": 0.4}),
    Profile("axwerra", {"parts": 1}, {"de": 0.6, "zh": 0.4}, ("DE", "PL", "CN"), "EUR", "jsonl",
            0.04, 0.8, 0.15, 10.0, {"list_price": 0.2}),
    Profile("bazarium", _EVERYTHING, _ALL_LANGUAGES, ("US", "GB", "CN", "FR"), "USD", "csv",
            0.04, 1.5, 0.10, 5.0, {"payee": 0.2}),
)  # fmt: skip


def profiles(config: WorldConfig) -> list[Profile]:
    """Return the members of a world, in order; beyond ten, the ten return under new names."""
    named = [
        _TEN[i % 10] if i < 10 else replace(_TEN[i % 10], name=f"{_TEN[i % 10].name}-{i // 10 + 1}")
        for i in range(config.members)
    ]
    trades = {c for profile in named if len(profile.categories) == 1 for c in profile.categories}
    if config.preset not in ("iid", "quantity-skew", "label-skew", "language-split"):
        named = [_trading(profile, trades) for profile in named]
    return [_adapt(profile, i, config) for i, profile in enumerate(named)]


def _trading(profile: Profile, trades: set[str]) -> Profile:
    """Return a marketplace that carries what the brands of this world make."""
    if len(profile.categories) == 1:
        return profile
    return replace(profile, categories={c: 1.0 for c in CATEGORIES if c in trades})


def _adapt(profile: Profile, index: int, config: WorldConfig) -> Profile:
    """Apply the preset to the member at ``index``; the last member is the odd one out."""
    last = index == config.members - 1
    match config.preset:
        case "iid":
            return _even(profile)
        case "quantity-skew":
            return replace(_even(profile), size=3.0 / (1 + index) ** 1.2)
        case "label-skew":
            step = index / (config.members - 1)
            return replace(_even(profile), prevalence=0.01 + 0.11 * step)
        case "language-split":
            return replace(_even(profile), languages={LANGUAGES[index % len(LANGUAGES)]: 1.0})
        case "late-joiner":
            return replace(profile, labels="none") if last else profile
        case "poisoner":
            return replace(profile, labels="flipped") if last else profile
        case "free-rider":
            return replace(profile, size=0.05) if last else profile
        case _:
            return profile


def _even(profile: Profile) -> Profile:
    """Return ``profile`` with nothing of its own but its name and file format."""
    return Profile(
        name=profile.name,
        categories=_EVERYTHING,
        languages=_ALL_LANGUAGES,
        countries=("DE", "US", "CN", "FR", "ES"),
        currency="EUR",
        file_format=profile.file_format,
    )
