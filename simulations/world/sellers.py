"""Who sells: honest accounts, and crews that run many accounts over several members."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from simulations.world.draws import Draws
from simulations.world.laws import FAKE_AGE, FAKE_RETURNS, HONEST_AGE, HONEST_RETURNS
from simulations.world.profiles import Profile

_FIRST = ("nova", "casa", "blue", "lina", "urban", "alp", "sun", "maison", "kern", "luna", "tao",
          "river", "north", "mira", "oak", "jin", "vera", "solo", "marco", "anna")  # fmt: skip
_LAST = ("store", "shop", "trade", "boutique", "market", "outlet", "house", "depot", "studio",
         "corner", "line", "goods", "world", "haus", "mart")  # fmt: skip
_PAYMENTS = {"card": 0.62, "wallet": 0.28, "transfer": 0.10}

NEW_HONEST = 0.45
"""Probability that an honest listing comes from an account not seen before."""

ACCOUNT_LISTINGS = 3
"""Mean listings of a crew's account before it is burnt."""

SHARED_PAYEE = 0.08
"""Probability that a crew's account is paid through the crew's own payee."""

OLDEST_DAYS = 6000
"""No account is older than the marketplaces themselves: the tail of the age laws ends here."""

CREW_WEEKS = (10, 26)
"""A crew works this long; then another takes its place."""

CREWS_AT_HOME = 2
"""Crews that have their home at a member at any time."""


@dataclass
class Seller:
    """One account at one member. `crew` is hidden truth, None for the honest."""

    seller_id: str
    name: str
    created_at: datetime
    rating: float | None
    country: str
    payee: str
    payment: str
    return_rate: float
    crew: str | None = None
    listings: int = 0


def _name(draws: Draws, digits: float) -> str:
    tail = str(draws.randrange(10, 999)) if draws.chance(digits) else ""
    return f"{draws.choice(_FIRST)}{draws.choice(('_', '', '-'))}{draws.choice(_LAST)}{tail}"


def _rating(draws: Draws, mean: float, age_days: float) -> float | None:
    if draws.chance(0.5 if age_days < 45 else 0.08):
        return None
    return round(min(5.0, max(1.0, draws.gauss(mean, 0.35))), 1)


@dataclass
class HonestSellers:
    """One member's honest accounts, grouped by the kind of offer they make."""

    member: Profile
    draws: Draws
    known: dict[str, list[Seller]] = field(default_factory=dict)

    def pick(self, kind: str, at: datetime) -> Seller:
        """Return an account for a listing of ``kind`` at ``at``: a recent one or a new one."""
        group = self.known.setdefault(kind, [])
        if not group or self.draws.chance(NEW_HONEST):
            group.append(self._open(kind, at))
            return group[-1]
        return self.draws.choice(group[-40:])

    def _open(self, kind: str, at: datetime) -> Seller:
        young, young_law, old_law = HONEST_AGE
        law = young_law if self.draws.chance(young) else old_law
        age = min(OLDEST_DAYS, self.draws.around(*law))
        far = self.draws.chance(0.55 if kind == "grey" else 0.12)
        ranked = {c: 0.5**i for i, c in enumerate(self.member.countries)}
        abroad = self.draws.choice(("CN", "HK", "US", "TR", "PL", "VN", "LT"))
        return Seller(
            seller_id=self.draws.token(10),
            name=_name(self.draws, 0.25),
            created_at=at - timedelta(days=age),
            rating=_rating(self.draws, 4.6, age),
            country=abroad if far else self.draws.weighted(ranked),
            payee=self.draws.token(8),
            payment=self.draws.weighted(_PAYMENTS),
            return_rate=round(self.draws.betavariate(*HONEST_RETURNS), 4),
        )


@dataclass
class Crew:
    """A group of counterfeiters: one payee, some members, accounts that come and go.

    Attributes:
        present: members where it sells.
        weeks: first and last week of its work.
        accounts: member -> its latest account there, aged or young.
    """

    crew_id: str
    present: frozenset[str]
    weeks: tuple[int, int]
    payee: str
    accounts: dict[tuple[str, bool], Seller] = field(default_factory=dict)

    def works(self, member: str, week: int) -> bool:
        """Tell whether the crew sells at ``member`` in ``week``."""
        return member in self.present and self.weeks[0] <= week <= self.weeks[1]

    def account(self, member: Profile, aged: bool, at: datetime, draws: Draws) -> Seller:
        """Return the crew's account at ``member``, a fresh one if the last is burnt."""
        key = (member.name, aged)
        last = self.accounts.get(key)
        if last is None or draws.chance(1.0 / ACCOUNT_LISTINGS):
            self.accounts[key] = last = self._open(member, aged, at, draws)
        return last

    def _open(self, member: Profile, aged: bool, at: datetime, draws: Draws) -> Seller:
        age = min(OLDEST_DAYS, draws.around(*FAKE_AGE[aged]))
        abroad = draws.chance(0.3)
        return Seller(
            seller_id=draws.token(10),
            name=_name(draws, 0.35),
            created_at=at - timedelta(days=age),
            rating=_rating(draws, 4.5, age),
            country=draws.choice(("CN", "HK", "TR")) if abroad else draws.choice(member.countries),
            payee=self.payee if draws.chance(SHARED_PAYEE) else draws.token(8),
            payment=draws.weighted(_PAYMENTS),
            return_rate=round(draws.betavariate(*FAKE_RETURNS), 4),
            crew=self.crew_id,
        )


def crews(members: list[Profile], weeks: int, draws: Draws) -> list[Crew]:
    """Draw the crews of ``weeks`` weeks; every home always has `CREWS_AT_HOME` at work."""
    found: list[Crew] = []
    for home in members:
        for _ in range(CREWS_AT_HOME):
            first = -draws.randrange(CREW_WEEKS[0])
            while first < weeks:
                others = {m.name for m in members if m is not home and draws.chance(0.4)}
                last = first + draws.randint(*CREW_WEEKS)
                found.append(
                    Crew(
                        crew_id=f"C{len(found):03d}",
                        present=frozenset({home.name} | others),
                        weeks=(first, last),
                        payee=draws.token(8),
                    )
                )
                first = last + 1
    return found
