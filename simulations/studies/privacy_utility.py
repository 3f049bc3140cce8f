"""``python -m simulations.studies.privacy_utility``: what privacy for single records costs in use.

Every figure is of the model that production code trains (``private_update`` with its own noise),
averaged over members; the secure sum is left out, because it is exact. Listings are judged by the
world's truth on the weeks after training. "none" is the same model and schedule with noise of a
hundredth of the clip, "alone" the best non-private model that a member makes of its own records.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from participant.ingest.service import read_records
from participant.training.baseline import fit_local
from participant.training.dataset import TrainingSet
from participant.training.inference import logits_of
from participant.training.matrix import to_csr
from participant.training.private import PrivateConfig, WholeRecords, private_update
from shared.console import say
from shared.model.features.build import build_features
from shared.model.features.history import History
from shared.model.layout import ModelSpec, init_vector
from shared.model.metrics import pr_auc, roc_auc
from shared.privacy.gaussian_dp import PureUses
from shared.privacy.keystream import Keystream
from shared.privacy.terms import (
    RATE,
    STEPS,
    PrivacyTerms,
    evaluation_epsilon,
    evaluations_of,
    full_rows,
    plan_privacy,
)
from simulations.shops import deal_shops, load_shops, write_shops
from simulations.world import WorldConfig, evaluation_listings, generate, training_records
from simulations.world.splits import split

COMPACT, NETWORK = ModelSpec.compact(), ModelSpec()
DELTA, ROUNDS, EVERY = 1e-5, 10, 5
EPSILONS = (1.0, 2.0, 4.0, 8.0)
LITTLE = 10
"""Thousandths of the clip: next to no noise."""
SHOP_ROWS = 100
SHOPS_AT = datetime(2024, 1, 1, tzinfo=UTC)

Score = Callable[[NDArray[np.int8], NDArray[np.float32]], float]
Test = tuple[csr_matrix, NDArray[np.int8]]


@dataclass(frozen=True)
class Member:
    """One member's records for the compact model and for its own, and what both are judged on."""

    compact: tuple[TrainingSet, Test] = field(repr=False)
    own: tuple[TrainingSet, Test] | None = field(repr=False, default=None)

    @cached_property
    def whole(self) -> WholeRecords:
        """The compact model's training records, rounded once for all runs."""
        return WholeRecords.of(self.compact[0])

    def update(
        self, vector: np.ndarray, config: PrivateConfig, stream: Keystream | None
    ) -> np.ndarray:
        """Return the member's part of one round."""
        return private_update(COMPACT, vector, self.compact[0], config, stream, records=self.whole)


def world_members(seed: int, per_week: int, members: int, *, own: bool = True) -> list[Member]:
    """Return the members of a world with some ``per_week`` new listings a week each."""
    world = generate(WorldConfig(seed=seed, members=members, listings_per_week=per_week))
    now, found = world.week_start(world.config.train_weeks), []
    for name in world.members:
        records, later = training_records(world, name), evaluation_listings(world, name)
        mine = world.members[name]
        truth = mine.truth["counterfeit"].to_numpy()[split(world, name).test].astype(np.int8)
        history = History(mine.listings, mine.complaints)

        def build(
            spec: ModelSpec,
            records: dict = records,
            later: object = later,
            history: History = history,
            truth: NDArray[np.int8] = truth,
        ) -> tuple[TrainingSet, Test]:
            batch = build_features(
                later,
                "listings",
                hash_bits=spec.hash_bits,
                as_of=later["updated_at"],
                history=history,
                compact=spec.linear,
            )
            training = TrainingSet.from_records(
                "listings",
                records["listings"],
                spec=spec,
                as_of=now,
                complaints=records["complaints"],
                verdicts=records["verdicts"],
            )
            return training, (to_csr(batch, spec.rows), truth)

        found.append(Member(build(COMPACT), build(NETWORK) if own else None))
    return found


def shop_members(seed: int, data: Path) -> list[Member]:
    """Return members that the real shops were dealt to.

    One with a single class in its test part has no score and is left out of every mean.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shops(deal_shops(load_shops(data), seed=seed), Path(folder))
        for parts in paths.values():
            train, test = (
                read_records(parts[name], "shops", "online_shops")[0] for name in ("train", "test")
            )

            def build(spec: ModelSpec, train: object = train, test: object = test):  # type: ignore[no-untyped-def]
                batch = build_features(
                    test, "shops", hash_bits=spec.hash_bits, as_of=SHOPS_AT, compact=spec.linear
                )
                data = TrainingSet.from_records("shops", train, spec=spec, as_of=SHOPS_AT)
                return data, (to_csr(batch, spec.rows), test["label"].to_numpy())

            found.append(Member(build(COMPACT), build(NETWORK)))
    return found


def planned(epsilon: float, steps: int) -> PrivacyTerms:
    """Return the noise of a run as ``run start --dp-epsilon`` plans it, evaluations paid for."""
    count = evaluations_of(ROUNDS, EVERY)
    uses = PureUses(count, evaluation_epsilon(math.inf, epsilon, count))
    return plan_privacy(epsilon, DELTA, rounds=ROUNDS, steps=steps, evaluations=uses)


def federated(
    members: list[Member],
    epsilon: float | None,
    rows: int | None = None,
    stream: Keystream | None = None,
    *,
    steps: int = STEPS,
) -> np.ndarray:
    """Return the compact model after a run at ``epsilon``; None adds next to no noise.

    A ``stream`` makes the noise the same every time, for tests.
    """
    terms = PrivacyTerms(10_000, steps, LITTLE, LITTLE)
    if epsilon is not None:
        terms = planned(epsilon, steps)
    config = PrivateConfig(terms, RATE, rows or full_rows(epsilon or EPSILONS[-1], DELTA))
    vector = init_vector(COMPACT, 0)
    for _ in range(ROUNDS):
        moved = [one.update(vector, config, stream) for one in members]
        vector = (vector + np.mean(moved, axis=0)).astype(np.float32)
    return vector


def judged(members: list[Member], vectors: list[np.ndarray], score: Score) -> float:
    """Return the mean score of each member's vector on its own test part."""
    values = [
        score(one.compact[1][1], logits_of(COMPACT, vector, one.compact[1][0]))
        for one, vector in zip(members, vectors, strict=True)
    ]
    return float(np.nanmean(values))


def alone(members: list[Member], score: Score) -> float:
    """Return the mean score of the best model that each member makes by itself, not private."""
    values = []
    for one in members:
        if one.own is not None:
            training, (matrix, truth) = one.own
            values.append(score(truth, logits_of(NETWORK, fit_local(training).vector, matrix)))
    return float(np.nanmean(values)) if values else float("nan")


def rows_of(
    name: str,
    members: list[Member],
    score: Score,
    rows: int | None = None,
    *,
    steps: int = STEPS,
) -> list[str]:
    """Return the table rows of one federation: together, and each member's own private model."""
    size = int(np.mean([one.compact[0].train_rows for one in members]))
    bar = alone(members, score)
    together, single = [], []
    for epsilon in (*EPSILONS, None):
        vector = federated(members, epsilon, rows, steps=steps)
        together.append(judged(members, [vector] * len(members), score))
        own = [federated([one], epsilon, rows, steps=steps) for one in members]
        single.append(judged(members, own, score))
    cells = (" | ".join(f"{value:.3f}" for value in line) for line in (together, single))
    labels = ("together", "each its own private model")
    return [
        f"| {name}, {size:,} rows | {label} | {line} | {bar:.3f} |"
        for label, line in zip(labels, cells, strict=True)
    ]


LONGER = 6
"""Steps a round of a run without noise that is twice as long as a private one."""


def cost_row(
    name: str, members: list[Member], score: Score, epsilon: float, draws: int, steps: int
) -> str:
    """Return what ``epsilon`` costs, over several draws of the noise, as a table row."""
    rows = full_rows(epsilon, DELTA)

    def scored(chosen: float | None, steps: int = steps) -> float:
        vector = federated(members, chosen, rows, steps=steps)
        return judged(members, [vector] * len(members), score)

    private = np.array([scored(epsilon) for _ in range(draws)])
    bare, longer = scored(None), scored(None, LONGER)
    size = int(np.mean([one.compact[0].train_rows for one in members]))
    return (
        f"| {name}, {len(members)} members, {size:,} rows | {private.mean():.3f} "
        f"({private.min():.3f} to {private.max():.3f}) | {bare:.3f} | {longer:.3f} "
        f"| {bare - private.mean():.3f} |"
    )


GATES = "the gates of a private run"
ALLOWED_BELOW_ALONE = 0.02
"""PR-AUC that epsilon 8 at some 1,000 rows a member may lie below the best models made alone."""
ALLOWED_COST = 0.05
"""PR-AUC that epsilon 2 at some 5,000 rows a member may cost against the same without noise."""


@dataclass(frozen=True)
class Gate:
    """One condition that the study holds a private run to, as a mean over worlds."""

    name: str
    values: list[float]
    limit: float

    @property
    def kept(self) -> bool:
        """Whether the mean is within the limit."""
        return float(np.mean(self.values)) <= self.limit

    def line(self) -> str:
        """Return it for people."""
        each = ", ".join(f"{value:+.3f}" for value in self.values)
        verdict = "kept" if self.kept else "BROKEN"
        mean = float(np.mean(self.values))
        return f"{self.name}: {mean:+.3f} (each: {each}); at most {self.limit:+.3f}: {verdict}"


def gates(seeds: list[int], draws: int, sizes: tuple[tuple[int, int], ...]) -> list[Gate]:
    """Measure both gates; ``sizes`` are (listings a week, members) of the one and of the other."""
    below, cost = [], []
    for seed in seeds:
        say(f"{GATES}: world {seed}")
        small = world_members(seed, *sizes[0])
        below.append(alone(small, pr_auc) - mean_of_draws(small, 8.0, draws))
        large = world_members(seed, *sizes[1], own=False)
        bare = federated(large, None, full_rows(2.0, DELTA))
        without = judged(large, [bare] * len(large), pr_auc)
        cost.append(without - mean_of_draws(large, 2.0, draws))
    return [
        Gate("ε 8, PR-AUC below the models made alone", below, ALLOWED_BELOW_ALONE),
        Gate("ε 2, PR-AUC below the same without noise", cost, ALLOWED_COST),
    ]


def mean_of_draws(members: list[Member], epsilon: float, draws: int) -> float:
    """Return the mean PR-AUC over several draws of the noise."""
    vectors = [federated(members, epsilon) for _ in range(draws)]
    return float(np.mean([judged(members, [one] * len(members), pr_auc) for one in vectors]))


def print_costs(options: argparse.Namespace) -> None:
    """Print what ``--cost`` asks for: one row a world."""
    head = f"ε {options.cost:g}, mean of {options.draws} draws"
    heads = ("data, training rows a member", head, "none", f"none, {LONGER} steps", "cost")
    sys.stdout.write(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n")
    for per_week in options.per_week:
        for seed in options.seeds:
            members = world_members(seed, per_week, options.members, own=False)
            row = cost_row(
                f"world {seed}", members, pr_auc, options.cost, options.draws, options.steps
            )
            sys.stdout.write(row + "\n")
            sys.stdout.flush()


def plot(table: str, path: Path) -> None:
    """Draw the "together" rows of a printed table, each beside its non-private local models."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    for line in dict.fromkeys(table.splitlines()):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != len(EPSILONS) + 4 or cells[1] != "together":
            continue
        values = [float(cell) for cell in cells[2:]]
        drawn = axes.plot(range(len(EPSILONS) + 1), values[:-1], marker="o", label=cells[0])
        axes.axhline(values[-1], color=drawn[0].get_color(), linestyle=":", linewidth=1)
    axes.set_xticks(range(len(EPSILONS) + 1), [f"{epsilon:g}" for epsilon in EPSILONS] + ["none"])
    axes.set_xlabel("epsilon of the run (dotted: each member's own model, not private)")
    axes.set_ylabel("PR-AUC (shops: ROC-AUC), mean over members")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.studies.privacy_utility")
    parser.add_argument("--data", type=Path, help="folder of the real shops")
    parser.add_argument("--seeds", type=int, nargs="*", default=[31, 32])
    parser.add_argument("--per-week", type=int, nargs="*", default=[105, 550])
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=STEPS, help="noisy steps a round")
    parser.add_argument("--cost", type=float, help="only what this epsilon costs, over draws")
    parser.add_argument(
        "--gates", action="store_true", help="hold both gates; exit 1 if one breaks"
    )
    parser.add_argument("--draws", type=int, default=3, help="of the noise, with --cost or --gates")
    parser.add_argument("--plot", type=Path, help="draw the table to this SVG file")
    parser.add_argument("--table", type=Path, help="draw this printed table, measure nothing")
    options = parser.parse_args()
    if options.table is not None and options.plot is not None:
        plot(options.table.read_text("utf-8"), options.plot)
        return 0
    torch.set_num_threads(1)
    if options.gates:
        held = gates(options.seeds, options.draws, ((105, 8), (550, 6)))
        sys.stdout.write("".join(gate.line() + "\n" for gate in held))
        return 0 if all(gate.kept for gate in held) else 1
    if options.cost is not None:
        print_costs(options)
        return 0
    head = " | ".join(f"ε {epsilon:g}" for epsilon in EPSILONS)
    out = [f"| data, training rows a member | model | {head} | none | alone |"]
    out.append("|" + "---|" * (len(EPSILONS) + 4))
    for per_week in options.per_week:
        for seed in options.seeds:
            say(f"world {seed}, {per_week} listings a week")
            members = world_members(seed, per_week, options.members, own=per_week < 300)
            out += rows_of(f"world {seed}", members, pr_auc, steps=options.steps)
            sys.stdout.write("\n".join(out[-2:]) + "\n")
            sys.stdout.flush()
    if options.data is not None:
        for seed in options.seeds:
            say(f"shops, deal {seed}")
            shops = shop_members(seed, options.data)
            out += rows_of(f"shops {seed}", shops, roc_auc, SHOP_ROWS, steps=options.steps)
    sys.stdout.write("\n".join(out) + "\n")
    if options.plot is not None:
        plot("\n".join(out), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
