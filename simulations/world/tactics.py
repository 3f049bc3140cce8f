"""Tactics: how counterfeiters dress their offers, and how a way of dressing travels.

A tactic is born at one member, reaches others after an exponential time with a probability that
falls with their distance, lives for some weeks at each, and comes back disguised once caught.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulations.world.config import WorldConfig
from simulations.world.draws import Draws, stream
from simulations.world.laws import MECHANISM_MIX, OBFUSCATION, OBFUSCATION_AFTER_DETECTION
from simulations.world.profiles import Profile
from simulations.world.texts import CODE_CONCEPTS, JARGON_CONCEPTS

BIRTHS_PER_WEEK = 0.30
"""Tactics born a week at each member."""

EARLIEST = -14
"""Tactics are born from this week on, so that week 0 already sees some."""

SPREAD = 0.6
"""Probability that a tactic reaches a member of affinity 1."""

SPREAD_WEEKS = 5.0
"""Mean time a tactic takes to reach another member."""

LIFE_WEEKS = (8, 25)

CAUGHT_AFTER = 9
"""Listings of a tactic after which a member's detection bites."""

PAUSE_WEEKS = 2
"""A caught tactic stays away this long, then returns in disguise."""

TEMPLATES = ("★ {} ★", "【{}】", "!! {} !!", "✅ {}", "~ {} ~", "{} >>", "[HQ] {}", "♛ {}",
             "{} #vip", "✈ {}", "{} | top", "「{}」")  # fmt: skip
"""Title decorations; honest sellers use each of them now and then."""

ABROAD = ("CN", "HK", "TR", "VN", "LT")


@dataclass(frozen=True, eq=False)
class Tactic:
    """One way of dressing counterfeit offers.

    Attributes:
        code_words: concepts, written in the listing's language.
        jargon: concepts of its typical phrases.
        template: how it decorates titles, one of `TEMPLATES`.
        mechanism: that most of its listings use.
        price_shift: factor on the mechanism's price law.
        ship_from: country code, or None for the account's own.
        ship_days: promised delivery time.
        payment: how it wants to be paid.
        photo: hash of its image template.
        stays: member -> (first week, last week).
    """

    tactic_id: str
    born_at: str
    code_words: tuple[str, ...]
    jargon: tuple[str, ...]
    template: str
    mechanism: str
    price_shift: float
    ship_from: str | None
    ship_days: int
    payment: str
    photo: str
    stays: dict[str, tuple[int, int]]

    def active(self, member: str, week: int) -> bool:
        """Tell whether the tactic is in use at ``member`` in ``week``."""
        first, last = self.stays.get(member, (0, -1))
        return first <= week <= last


@dataclass
class Heat:
    """What one member's detection has done to the tactics it sees."""

    seen: dict[str, int] = field(default_factory=dict)
    back_in: dict[str, int] = field(default_factory=dict)

    def paused(self, tactic: Tactic, week: int) -> bool:
        """Tell whether the tactic lies low after having been caught."""
        return week < self.back_in.get(tactic.tactic_id, week)

    def used(self, tactic: Tactic, week: int) -> None:
        """Count one listing; the one that passes the limit sends the tactic into its pause."""
        key = tactic.tactic_id
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] == CAUGHT_AFTER:
            self.back_in[key] = week + 1 + PAUSE_WEEKS

    def obfuscation(self, tactic: Tactic) -> float:
        """Return how often the tactic hides its words at this member by now."""
        caught = tactic.tactic_id in self.back_in
        return OBFUSCATION_AFTER_DETECTION if caught else OBFUSCATION


def affinity(one: Profile, other: Profile) -> float:
    """Return in 0.5 … 1 how easily a tactic travels: shared languages and categories help."""
    tongue = sum(min(one.languages[k], v) for k, v in other.languages.items() if k in one.languages)
    trade = any(category in one.categories for category in other.categories)
    return 0.5 + 0.3 * min(1.0, tongue) + 0.2 * trade


def tactics(config: WorldConfig, members: list[Profile]) -> list[Tactic]:
    """Draw every tactic of the world with its travels, ordered by birth."""
    draws = stream(config.seed, "tactics")
    found: list[Tactic] = []
    for week in range(EARLIEST, config.weeks):
        for member in members:
            for _ in range(draws.count(BIRTHS_PER_WEEK)):
                found.append(_born(f"T{len(found):04d}", member, week, config, members, draws))
    return found


def _born(
    tactic_id: str,
    home: Profile,
    week: int,
    config: WorldConfig,
    members: list[Profile],
    draws: Draws,
) -> Tactic:
    stays = {home.name: (week, week + draws.randint(*LIFE_WEEKS))}
    for other in members:
        reaches = draws.chance(SPREAD * affinity(home, other))
        arrival = week + 1 + int(draws.expovariate(1.0 / SPREAD_WEEKS))
        stay = (arrival, arrival + draws.randint(*LIFE_WEEKS))
        if config.spread and other.name != home.name and reaches:
            stays[other.name] = stay
    category = draws.weighted(home.categories)
    return Tactic(
        tactic_id=tactic_id,
        born_at=home.name,
        code_words=tuple(draws.some(CODE_CONCEPTS, 2)),
        jargon=tuple(draws.some(JARGON_CONCEPTS, 4)),
        template=draws.choice(TEMPLATES),
        mechanism=draws.weighted(MECHANISM_MIX[category]),
        price_shift=draws.around(1.0, 0.12),
        ship_from=draws.choice(ABROAD) if draws.chance(0.4) else None,
        ship_days=draws.choice((3, 4, 7, 10, 14, 18)),
        payment=draws.choice(("card", "card", "wallet", "transfer")),
        photo=draws.token(16),
        stays=stays,
    )
