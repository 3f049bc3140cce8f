"""Members of the synthetic world, cut down to given numbers of labelled listings."""

from __future__ import annotations

import numpy as np
import polars as pl

from participant.training.dataset import TrainingSet
from participant.training.matrix import to_csr
from shared.domain.labels import derive_labels
from shared.errors import BadInput
from shared.model.features.build import build_features
from shared.model.features.history import History
from shared.model.layout import ModelSpec
from simulations.studies.member_size.member import StudyMember
from simulations.world import (
    World,
    WorldConfig,
    evaluation_listings,
    generate,
    split,
    training_records,
)

SIZES = (50, 50, 200, 200, 1000, 1000, 5000, 5000)
PER_WEEK = 520
"""Listings a week: even the smallest of the eight profiles then has 5,000 with a label."""


def world_members(
    seed: int, spec: ModelSpec, *, sizes: tuple[int, ...] = SIZES, per_week: int = PER_WEEK
) -> list[StudyMember]:
    """Return the members of a fresh world, one for each of ``sizes``.

    Which member is small and which is large changes with the seed, so that a size is not one
    brand's character. The test part is what the member sees in the four weeks after training.

    Raises:
        BadInput: a member has fewer labelled listings than asked for.
    """
    config = WorldConfig(
        members=len(sizes), weeks=24, train_weeks=20, listings_per_week=per_week, seed=seed
    )
    world = generate(config)
    order = np.random.default_rng(seed).permutation(len(sizes))
    dealt = [sizes[place] for place in order]
    return [_member(world, n, size, spec) for n, size in zip(world.members, dealt, strict=True)]


def _member(world: World, name: str, size: int, spec: ModelSpec) -> StudyMember:
    now = world.week_start(world.config.train_weeks)
    records = _cut(training_records(world, name), size, world, name)
    training = TrainingSet.from_records(
        "listings",
        records["listings"],
        spec=spec,
        as_of=now,
        complaints=records["complaints"],
        verdicts=records["verdicts"],
    )
    later, own = evaluation_listings(world, name), world.members[name]
    offers = pl.concat([records["listings"], later])
    # The member knows complaints about what it holds and about what it now scores.
    known = pl.col("listing_id").is_in(offers["listing_id"].implode())
    batch = build_features(
        later,
        "listings",
        hash_bits=spec.hash_bits,
        as_of=later["updated_at"],
        history=History(offers, own.complaints.filter(known)),
    )
    truth = own.truth["counterfeit"].to_numpy()[split(world, name).test].astype(np.int8)
    return StudyMember(name, size, training, to_csr(batch, spec.rows), truth)


def _cut(
    records: dict[str, pl.DataFrame], size: int, world: World, name: str
) -> dict[str, pl.DataFrame]:
    """Keep ``size`` labelled listings of some sellers, whole sellers as far as they fit."""
    now = world.week_start(world.config.train_weeks)
    labelled = derive_labels(records["listings"], records["complaints"], records["verdicts"], now)
    if labelled.height < size:
        raise BadInput(
            f"{name} has {labelled.height} labelled listings, {size} were asked for",
            hint="raise the listings a week",
        )
    listings = records["listings"].join(labelled.select("listing_id"), on="listing_id", how="semi")
    listings = listings.with_columns(owner=pl.coalesce("seller_id", "listing_id"))
    sellers = np.array(listings["owner"].unique().sort().to_list())
    np.random.default_rng(world.config.seed).shuffle(sellers)
    turn = pl.DataFrame({"owner": sellers, "turn": np.arange(sellers.size)})
    kept = listings.join(turn, on="owner").sort("turn", "created_at", "listing_id").head(size)
    chosen = kept.select("listing_id")
    return {
        table: frame.join(chosen, on="listing_id", how="semi", maintain_order="left")
        for table, frame in records.items()
    }
