"""The demonstration on the synthetic world: five members, five ways of selling, one alliance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from participant.deployment.active import LoadedModel
from participant.ingest import read_records
from shared.clock import rfc3339
from shared.domain.vocabulary import Kind
from simulations.demo.alliance import Export, Member
from simulations.demo.figures import MemberFigures, Quality, quality
from simulations.demo.models import decision, federated_model, local_model, scores_of
from simulations.demo.processes import Processes
from simulations.demo.scenario import KILL_IN_ROUND, Played, Scenario, play
from simulations.demo.stage import Stage
from simulations.world import World, WorldConfig, generate, new_tactic_mask, split, write

KINDS: tuple[Kind, ...] = ("listings", "complaints", "verdicts")
TOP = 10

COLLUDERS = 1

POLICY = f"""\
# Five members cannot afford the cohort of a large alliance. Each of them says so here, knowingly:
# sums of four are enough; {COLLUDERS} of the others may side with the coordinator (the default).
allowed_purposes = ["counterfeit-detection"]
approval = "never"
min_cohort = 4
max_colluders = {COLLUDERS}
min_known_peers = 2
"""


@dataclass(frozen=True)
class Size:
    """How large the demonstration is.

    Attributes:
        rounds: of the run.
        listings_per_week: mean listings of a member of ordinary size.
        kill_in_round: when a member is killed.
    """

    rounds: int = 10
    listings_per_week: int = WorldConfig.listings_per_week
    kill_in_round: int = KILL_IN_ROUND


@dataclass(frozen=True)
class Suspect:
    """One of the riskiest fresh listings of a member, as its own scorer reports it."""

    risk: float
    band: str
    title: str
    reasons: tuple[str, ...]
    counterfeit: bool


@dataclass(frozen=True)
class ListingOutcome:
    """Everything there is to tell."""

    played: Played
    figures: tuple[MemberFigures, ...]
    suspects_of: str
    suspects: tuple[Suspect, ...]


def config(size: Size) -> WorldConfig:
    """Return the world's configuration: whatever comes after the training weeks is fresh."""
    plain = WorldConfig(listings_per_week=size.listings_per_week)
    return WorldConfig(
        listings_per_week=size.listings_per_week, test_weeks=plain.weeks - plain.train_weeks
    )


def listing_demo(stage: Stage, processes: Processes, folder: Path, size: Size) -> ListingOutcome:
    """Play the whole demonstration; raises :class:`TouchstoneError`."""
    with stage.phase("write the members' exports"):
        world = generate(config(size))
        paths = write(world, folder / "data")
    members = [
        Member(name, folder / name, [Export(files[kind], kind) for kind in KINDS])
        for name, files in paths.items()
    ]
    scenario = Scenario(
        name="Touchstone demonstration",
        members=members,
        policy=POLICY,
        kind="listing",
        rounds=size.rounds,
        options=("--max-colluders", str(COLLUDERS)),
        kill_in_round=size.kill_in_round,
    )
    played = play(stage, processes, folder, scenario)
    fresh = {name: files["fresh_listings"] for name, files in paths.items()}
    scored = _score(stage, played, world, fresh, folder)
    with stage.phase("compare with the truth", len(members)) as bar:
        figures = []
        for member in members:
            figures.append(_figures(member, played, world, fresh[member.name]))
            bar.step(member.name)
    chosen = _spokesman(figures)
    suspects = _suspects(world, chosen, fresh[chosen], scored[chosen])
    return ListingOutcome(played, tuple(figures), chosen, suspects)


def _score(
    stage: Stage, played: Played, world: World, fresh: dict[str, Path], folder: Path
) -> dict[str, Path]:
    """Let every member score its fresh listings with what its node runs; return the results."""
    as_of = rfc3339(world.week_start(world.config.weeks))
    outs = {name: folder / f"{name}-scores.parquet" for name in fresh}

    def work(member: Member) -> None:
        played.alliance.processes.run(
            "participant", "score", fresh[member.name], "--out", outs[member.name],
            "--as-of", as_of, "--dir", member.folder,
        )  # fmt: skip

    stage.each("score fresh listings", played.alliance.members, work)
    return outs


def _figures(member: Member, played: Played, world: World, fresh: Path) -> MemberFigures:
    """Hold both models of a node against the truth, which no node ever sees."""
    frame, _ = read_records(fresh, "listings")
    masks = split(world, member.name)
    truth = world.members[member.name].truth.filter(masks.test)
    counterfeit = frame.join(truth, on="listing_id", how="left", maintain_order="left")
    wanted = counterfeit["counterfeit"].to_numpy()
    new_ids = world.members[member.name].truth.filter(new_tactic_mask(world, member.name))
    new = frame["listing_id"].is_in(new_ids["listing_id"].implode()).to_numpy()
    as_of = world.week_start(world.config.weeks)

    def measured(model: LoadedModel) -> Quality:
        return quality(wanted, new, scores_of(member, model, frame, as_of))

    decided = decision(member)
    return MemberFigures(
        name=member.name,
        rows=frame.height,
        counterfeit=int(np.count_nonzero(wanted)),
        new_cases=int(np.count_nonzero(new)),
        local=measured(local_model(member)),
        federated=measured(federated_model(member, played.release_id)),
        runs_federated=decided.federated,
        reason=decided.reason,
    )


def _spokesman(figures: list[MemberFigures]) -> str:
    """Return the first member that runs the alliance's model, or the first at all."""
    return next((one.name for one in figures if one.runs_federated), figures[0].name)


def _suspects(world: World, name: str, fresh: Path, scores: Path) -> tuple[Suspect, ...]:
    frame, _ = read_records(fresh, "listings")
    truth = world.members[name].truth.select("listing_id", "counterfeit")
    rows = (
        pl.read_parquet(scores)
        .join(frame.select("listing_id", "title"), left_on="id", right_on="listing_id")
        .join(truth, left_on="id", right_on="listing_id")
        .sort("risk", "id", descending=[True, False])
    )
    return tuple(
        Suspect(row["risk"], row["band"], row["title"], tuple(row["reasons"]), row["counterfeit"])
        for row in rows.head(TOP).iter_rows(named=True)
    )
