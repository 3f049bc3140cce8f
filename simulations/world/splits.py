"""Which listings train, which test, and which tactics another member already knew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from simulations.world.world import World

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Row masks over one member's listings, by week of appearance; they do not overlap."""

    train: Mask
    test: Mask
    fresh: Mask


def split(world: World, member: str) -> Split:
    """Cut a member's listings by time: training weeks, test weeks, and what comes after."""
    week = world.members[member].truth["week"].to_numpy()
    end_train = world.config.train_weeks
    end_test = end_train + world.config.test_weeks
    return Split(
        train=week < end_train, test=(week >= end_train) & (week < end_test), fresh=week >= end_test
    )


def unseen_actors(world: World, member: str) -> Mask:
    """Return which listings come from an account and a crew that no member's training holds."""
    crews: set[str] = set()
    sellers: set[str] = set()
    for name, other in world.members.items():
        known = other.truth.filter(split(world, name).train)
        crews.update(known["crew_id"].drop_nulls())
        sellers.update(known["seller_id"])
    truth = world.members[member].truth
    seen = truth["seller_id"].is_in(sellers) | truth["crew_id"].is_in(crews).fill_null(False)
    return ~seen.to_numpy()


def new_tactic_mask(world: World, member: str) -> Mask:
    """Return the test counterfeits whose tactic is new here but was seen elsewhere by train time.

    They are the cases where only another member's experience can help: recall on them, at a
    false-positive rate of 2 %, is the proof that knowledge travels.
    """
    seen = {
        name: set(other.truth.filter(split(world, name).train)["tactic_id"].drop_nulls())
        for name, other in world.members.items()
    }
    elsewhere = set().union(*(seen[name] for name in seen if name != member)) - seen[member]
    tactic = world.members[member].truth["tactic_id"]
    return split(world, member).test & tactic.is_in(elsewhere).fill_null(False).to_numpy()


def training_records(world: World, member: str) -> dict[str, pl.DataFrame]:
    """Return the three tables a member holds when training begins.

    Listings of the training weeks; complaints and verdicts that had arrived by their end, a later
    reversal not yet known.
    """
    own, now = world.members[member], world.week_start(world.config.train_weeks)
    listings = own.listings.filter(split(world, member).train)
    known = pl.col("listing_id").is_in(listings["listing_id"].implode())
    return {
        "listings": listings,
        "complaints": own.complaints.filter(known & (pl.col("created_at") < now)),
        "verdicts": own.verdicts.filter(known & (pl.col("decided_at") < now)).with_columns(
            reversed_at=pl.when(pl.col("reversed_at") < now).then("reversed_at")
        ),
    }


def evaluation_listings(world: World, member: str) -> pl.DataFrame:
    """Return the listings of the weeks on which models are compared."""
    return world.members[member].listings.filter(split(world, member).test)


def fresh_listings(world: World, member: str) -> pl.DataFrame:
    """Return all listings that appear after the training weeks: nobody has judged them yet."""
    masks = split(world, member)
    return world.members[member].listings.filter(masks.test | masks.fresh)
