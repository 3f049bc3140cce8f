"""One member's weeks: which listings appear, by whom, in what dress."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from simulations.world.catalogue import Product
from simulations.world.config import START, WorldConfig
from simulations.world.draft import Draft
from simulations.world.draws import stream
from simulations.world.laws import HONEST, LONE, MECHANISM_MIX, MECHANISMS, OBFUSCATION
from simulations.world.profiles import Profile
from simulations.world.sellers import Crew, HonestSellers, Seller
from simulations.world.tactics import Heat, Tactic
from simulations.world.writing import Wording, counterfeit_wording, honest_wording

_HONEST_MIX = {kind: law.share for kind, law in HONEST.items()}
_BRAND_WEIGHTS = (0.5, 0.25, 0.15, 0.1)
_CHANNELS = ("portolan", "bazarium", "krammarkt", "foirepop")
_CONDITION = {"used": "used", "refurbished": "refurbished"}
_FAR = frozenset({"CN", "HK", "TR", "VN"})
_WEEK_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Terms:
    """On what terms a listing offers: what the honest and the others choose differently.

    Attributes:
        relative_price: asked, over the list price.
        condition: as the listing states it.
        photos: hashes of pictures that the seller takes from a template.
    """

    relative_price: float
    ship_from: str
    ship_days: int
    payment: str
    brand_given: bool
    condition: str | None
    photos: tuple[str, ...] = ()


@dataclass
class Story:
    """Writes one member's drafts; the crews it meets are the same at every member."""

    config: WorldConfig
    member: Profile
    catalogue: dict[str, list[Product]]
    tactics: list[Tactic]
    crews: list[Crew]
    heat: Heat = field(default_factory=Heat)

    def __post_init__(self) -> None:
        """Open the member's own random streams."""
        self.draws = stream(self.config.seed, "story", self.member.name)
        self.honest_sellers = HonestSellers(
            self.member, stream(self.config.seed, "sellers", self.member.name)
        )

    def drafts(self) -> list[Draft]:
        """Return all listings of all weeks in the order of time, with their ids."""
        found = [draft for week in range(self.config.weeks) for draft in self._week(week)]
        for serial, draft in enumerate(found):
            draft.listing_id = f"{self.member.name}-{serial:06d}"
        return found

    def _week(self, week: int) -> list[Draft]:
        count = self.draws.count(self.config.listings_per_week * self.member.size)
        moments = sorted(self._moment(week) for _ in range(count))
        return [
            self._counterfeit(week, at)
            if self.draws.chance(self.member.prevalence)
            else self._honest(week, at)
            for at in moments
        ]

    def _moment(self, week: int) -> datetime:
        return START + timedelta(seconds=week * _WEEK_SECONDS + self.draws.randrange(_WEEK_SECONDS))

    def _product(self) -> Product:
        shelf = self.catalogue[self.draws.weighted(self.member.categories)]
        per_brand = len(shelf) // len(_BRAND_WEIGHTS)
        brand = self.draws.choices(range(len(_BRAND_WEIGHTS)), weights=_BRAND_WEIGHTS)[0]
        return shelf[brand * per_brand + self.draws.randrange(per_brand)]

    def _honest(self, week: int, at: datetime) -> Draft:
        draws = self.draws
        kind, product = draws.weighted(_HONEST_MIX), self._product()
        seller = self.honest_sellers.pick(kind, at)
        language = draws.weighted(self.member.languages)
        wording = honest_wording(kind, product, language, draws)
        days = (
            draws.choice((8, 10, 14, 18)) if seller.country in _FAR else draws.choice((2, 3, 4, 7))
        )
        terms = Terms(
            relative_price=draws.around(*HONEST[kind].price),
            ship_from=seller.country,
            ship_days=days,
            payment=seller.payment,
            brand_given=draws.chance(0.6 if kind == "accessory" else 0.96),
            condition=None if draws.chance(0.35) else _CONDITION.get(kind, "new"),
        )
        return self._draft(week, at, kind, product, seller, language, wording, terms)

    def _counterfeit(self, week: int, at: datetime) -> Draft:
        draws, product = self.draws, self._product()
        tactic = self._tactic(week)
        mechanism = self._mechanism(product, tactic)
        crew = self._crew(tactic, week)
        seller = crew.account(self.member, draws.chance(MECHANISMS[mechanism].aged), at, draws)
        language = draws.weighted(self.member.languages)
        wording = counterfeit_wording(
            mechanism, tactic, product, language, draws,
            hide=self.heat.obfuscation(tactic) if tactic else OBFUSCATION,
            code_words=self.config.code_words,
        )  # fmt: skip
        if tactic:
            self.heat.used(tactic, week)
        shift = tactic.price_shift if tactic else 1.0
        median, sigma = MECHANISMS[mechanism].price
        followed = tactic is not None and draws.chance(0.8)
        terms = Terms(
            relative_price=draws.around(median * shift, sigma),
            ship_from=(tactic.ship_from if followed else None) or seller.country,
            ship_days=tactic.ship_days if followed else draws.choice((2, 3, 4, 7, 10, 14)),
            payment=tactic.payment if followed else seller.payment,
            brand_given=draws.chance(0.6 if wording.obfuscated else 0.94)
            and mechanism != "hidden_link",
            condition=None if draws.chance(0.35) else "new",
            photos=(tactic.photo,) if tactic and draws.chance(0.4) else (),
        )
        draft = self._draft(week, at, mechanism, product, seller, language, wording, terms)
        return replace(draft, counterfeit=True, tactic_id=tactic.tactic_id if tactic else None)

    def _tactic(self, week: int) -> Tactic | None:
        """Return a tactic in use here this week; late arrivals are taken up more eagerly."""
        if self.draws.chance(LONE):
            return None
        here = {
            tactic: 1.0 / (2.0 + week - tactic.stays[self.member.name][0])
            for tactic in self.tactics
            if tactic.active(self.member.name, week) and not self.heat.paused(tactic, week)
        }
        return self.draws.weighted(here) if here else None

    def _mechanism(self, product: Product, tactic: Tactic | None) -> str:
        mix = MECHANISM_MIX[product.category]
        if tactic and tactic.mechanism in mix and self.draws.chance(0.7):
            return tactic.mechanism
        return self.draws.weighted(mix)

    def _crew(self, tactic: Tactic | None, week: int) -> Crew:
        """Return a crew at work here; a tactic is used by few crews, the same everywhere."""
        here = [crew for crew in self.crews if crew.works(self.member.name, week)]
        if tactic is None:
            return self.draws.choice(here)
        order = stream(self.config.seed, "adopters", tactic.tactic_id).sample(
            range(len(self.crews)), len(self.crews)
        )
        ranked = sorted(here, key=lambda crew: order[self.crews.index(crew)])
        return self.draws.choice(ranked[:2])

    def _draft(
        self,
        week: int,
        at: datetime,
        kind: str,
        product: Product,
        seller: Seller,
        language: str,
        wording: Wording,
        terms: Terms,
    ) -> Draft:
        """Return a listing as if it were honest; all that follows the same laws is drawn here."""
        draws = self.draws
        seller.listings += 1
        orders = draws.count(draws.around(5.0, 0.8))
        photos = [*terms.photos, *([product.photo] if draws.chance(0.45) else [])]
        photos += [draws.token(16) for _ in range(draws.count(1.5) + (not photos))]
        signals = self._signals(at, seller, terms, orders, len(photos))
        own = self.member.name in _CHANNELS
        return Draft(
            week=week,
            created_at=at,
            kind=kind,
            counterfeit=False,
            product=product,
            updated_at=at + timedelta(seconds=draws.randrange(2 * 24 * 3600)),
            seller=seller,
            language=language,
            wording=wording,
            price=terms.relative_price * product.list_price,
            quantity=1 if kind == "used" else 1 + draws.count(min(25.0, draws.around(4.0, 0.9))),
            ship_from=terms.ship_from,
            photos=photos,
            signals=signals,
            orders=orders,
            marketplace=self.member.name if own else draws.choice(_CHANNELS),
            brand_given=terms.brand_given,
            missing=frozenset(n for n, p in self.member.missing.items() if draws.chance(p)),
        )

    def _signals(
        self, at: datetime, seller: Seller, terms: Terms, orders: int, photos: int
    ) -> dict[str, float | int | str | None]:
        draws, age = self.draws, (at - seller.created_at).days
        return {
            "condition": terms.condition,
            "orders_7d": min(orders, draws.count(orders * 0.5)),
            "payee": seller.payee,
            "payment": terms.payment,
            "photos": photos + draws.count(2.0),
            "return_rate": seller.return_rate,
            "seller_listings": seller.listings + round(draws.around(2.0 + age / 40, 0.7)),
            "ship_days": terms.ship_days,
        }
