"""The synthetic world: members, what each of them sees, and the truth behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from simulations.world.aftermath import Aftermath
from simulations.world.catalogue import CATEGORIES, products
from simulations.world.config import START, WorldConfig
from simulations.world.draws import stream
from simulations.world.profiles import Profile, profiles
from simulations.world.rows import TRUTH_SCHEMA, listing_row, table, truth_row
from simulations.world.sellers import crews
from simulations.world.story import Story
from simulations.world.tactics import Tactic, tactics


@dataclass(frozen=True)
class MemberWorld:
    """What one member sees, and the truth about it.

    Attributes:
        listings: canonical table, in the order of ``created_at``.
        complaints: canonical table, in the order of arrival; some arrive after the last week.
        verdicts: canonical table, in the order of decision.
        truth: one row a listing, same order as ``listings``; never an input of any model.
    """

    profile: Profile
    listings: pl.DataFrame
    complaints: pl.DataFrame
    verdicts: pl.DataFrame
    truth: pl.DataFrame

    @property
    def name(self) -> str:
        """The member's name, a lower-case slug."""
        return self.profile.name


@dataclass(frozen=True)
class World:
    """All members, in order, and the tactics that travelled between them."""

    config: WorldConfig
    members: dict[str, MemberWorld]
    tactics: tuple[Tactic, ...]

    def week_start(self, week: int) -> datetime:
        """Return the first moment of ``week``."""
        return START + timedelta(weeks=week)


def generate(config: WorldConfig) -> World:
    """Tell the whole story of a world; the same ``config`` gives the same world everywhere."""
    people = profiles(config)
    schemes = tactics(config, people)
    gangs = crews(people, config.weeks, stream(config.seed, "crews"))
    catalogue = {c: products(c, stream(config.seed, "products", c)) for c in CATEGORIES}
    members = {}
    for profile in people:
        local = [scheme for scheme in schemes if profile.name in scheme.stays]
        members[profile.name] = _member(Story(config, profile, catalogue, local, gangs))
    return World(config, members, tuple(schemes))


def _member(story: Story) -> MemberWorld:
    profile = story.member
    drafts = story.drafts()
    after = Aftermath(profile, stream(story.config.seed, "aftermath", profile.name))
    complaints = [row for draft in drafts for row in after.complaints(draft)]
    verdicts = [row for draft in drafts if (row := after.verdict(draft))]
    complaints.sort(key=lambda row: (row["created_at"], row["complaint_id"]))
    verdicts.sort(key=lambda row: (row["decided_at"], row["listing_id"]))
    return MemberWorld(
        profile,
        table("listings", [listing_row(draft, profile) for draft in drafts]),
        table("complaints", complaints),
        table("verdicts", verdicts),
        pl.DataFrame([truth_row(draft) for draft in drafts], schema=TRUTH_SCHEMA, orient="row"),
    )
