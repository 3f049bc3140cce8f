"""Whole runs in one process: a real alliance, the two real applications, a learner that is exact.

The stand-in learner answers with a known update, so that a test can say what the sum must be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import shared.fleet.environment  # noqa: F401

# isort: split
import numpy as np
import pytest
from flwr.app import Context, RecordDict

from coordinator.app import app as server_app
from coordinator.db import Database
from coordinator.db.records import Round, Run
from coordinator.enrolment.files import load_signing_key
from coordinator.enrolment.service import roster
from coordinator.rounds import plan
from coordinator.rounds.launch import start_run
from coordinator.rounds.plan import RunSettings
from participant.app import make_app
from participant.node.keystore import identity_key
from participant.node.learner import DataFacts
from participant.node.peers import PINS_FILE, Peers, fingerprint
from participant.node.runtime import NodeRuntime
from shared.limits import MIN_GROUP
from shared.model.layout import ModelSpec
from shared.secagg import Evaluation
from shared.trust.audit import verify_past_manifest
from shared.trust.manifest import RunManifest, SecureSumTerms
from tests.support.alliance import Alliance, found_alliance
from tests.support.grid import InProcessGrid

BITS = 10
PURPOSE = "counterfeit-detection"

POLICY = """\
allowed_purposes = ["counterfeit-detection"]
approval = "never"
min_cohort = 4
max_colluders = 1
min_known_peers = 2
min_training_rows = 1
min_class_rows = 0
"""

SETTINGS = RunSettings(
    rounds=3, hash_bits=BITS, max_colluders=1, evaluate_every=2, min_holdout=10,
    setup_s=60, mask_s=60, away_s=1, unmask_s=60, draw_s=60,
)  # fmt: skip


@dataclass
class KnownLearner:
    """Moves every weight by ``step``, in a private run about so; no data, no training."""

    step: float
    spec: ModelSpec
    facts_: DataFacts = field(default_factory=lambda: DataFacts(100, 10, contract_holds=True))

    def facts(self) -> DataFacts:
        return self.facts_

    def update(self, model, terms, *, seed, threads):  # type: ignore[no-untyped-def]
        return np.full(self.spec.n_params, self.step, dtype=np.float32)

    def private_update(self, model, config):  # type: ignore[no-untyped-def]
        """Like a private trainer, answer with fresh noise: a slot used twice would show."""
        noise = np.random.default_rng().normal(0, self.step / 10, self.spec.n_params)
        return (self.step + noise).astype(np.float32)

    def evaluate(self, model) -> Evaluation:  # type: ignore[no-untyped-def]
        positives, negatives = np.zeros(20, np.int64), np.zeros(20, np.int64)
        positives[-1], negatives[0] = 100, 300
        return Evaluation(640, positives, negatives)


@dataclass
class Nodes:
    """The members' runtimes, by index; ``restart`` stands for a killed and restarted process."""

    alliance: Alliance
    steps: dict[int, float]
    running: dict[int, NodeRuntime] = field(default_factory=dict)
    min_group: int = MIN_GROUP

    def runtime(self, index: int) -> NodeRuntime:
        if index not in self.running:
            folder = list(self.alliance.member_dirs.values())[index - 1]

            def learner(store, kind, spec):  # type: ignore[no-untyped-def]
                return KnownLearner(self.steps[index], spec)

            self.running[index] = NodeRuntime(
                folder, make_learner=learner, unsafe_min_group=self.min_group
            )
        return self.running[index]

    def restart(self, index: int) -> None:
        self.running.pop(index).close()

    def close(self) -> None:
        for index in list(self.running):
            self.restart(index)


@dataclass
class Federation:
    """An alliance of nodes on an in-process grid, with a coordinator to run things on it."""

    alliance: Alliance
    nodes: Nodes
    grid: InProcessGrid
    database: Database

    def start(self, settings: RunSettings = SETTINGS) -> str:
        return start_run(self.alliance.coordinator_dir, self.database, settings)

    def drive(self, run_id: str) -> Run:
        """Bring a run to its end on this thread and return it."""
        config = {"state-dir": str(self.alliance.coordinator_dir), "run-id": run_id}
        server_app(self.grid, Context(7, 0, {}, RecordDict(), config))
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        return self.database.read("run", lambda unit: unit.runs.get(run_id))

    def rounds(self, run_id: str) -> list[Round]:
        return self.database.read("rounds", lambda unit: unit.rounds.of_run(run_id))

    def manifest(self, run_id: str) -> RunManifest:
        """Return the run's manifest, verified."""
        key = load_signing_key(self.alliance.coordinator_dir).public_key().public_bytes_raw()
        return verify_past_manifest(self.run(run_id).manifest, key).manifest

    def refusals(self, run_id: str) -> dict[int, str]:
        found = self.database.read("refusals", lambda unit: unit.rounds.refusals(run_id))
        return {item.member_index: item.reason_code for item in found}

    def folder(self, run_id: str) -> Path:
        return self.alliance.coordinator_dir / "runs" / run_id

    def in_background(self, run_id: str) -> threading.Thread:
        thread = threading.Thread(target=self.drive, args=(run_id,), daemon=True)
        thread.start()
        return thread


@contextmanager
def federation(
    tmp_path: Path,
    members: int = 5,
    *,
    step: Callable[[int], float] = lambda i: 0.01 * i,
    min_group: int = MIN_GROUP,
) -> Iterator[Federation]:
    """Found an alliance whose members accept each other and this purpose.

    ``min_group`` lets members take part in groups that are too small to protect anybody.
    """
    names = [f"member-{number}" for number in range(1, members + 1)]
    alliance = found_alliance(tmp_path, names)
    database = alliance.database()
    prepare_members(alliance, database)
    steps = {index: step(index) for index in range(1, members + 1)}
    nodes = Nodes(alliance, steps, min_group=min_group)
    apps = {
        index: make_app(lambda _folder, index=index: nodes.runtime(index))
        for index in range(1, members + 1)
    }
    config = {
        index: {"state-dir": str(folder)}
        for index, folder in enumerate(alliance.member_dirs.values(), 1)
    }
    grid = InProcessGrid(apps, node_config=config)
    try:
        with grid.keeping_time():
            yield Federation(alliance, nodes, grid, database)
    finally:
        grid.close()
        nodes.close()
        database.close()


def few_slots(monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    """Let a session prepare ``slots`` rounds instead of 32: it is set up faster, and used up."""
    honest = plan.secure_sum_terms

    def terms(settings: RunSettings, n: int) -> SecureSumTerms:
        return replace(honest(settings, n), slots=slots)

    monkeypatch.setattr(plan, "secure_sum_terms", terms)


def prepare_members(alliance: Alliance, database: Database, policy: str = POLICY) -> None:
    """Let every member accept the roster, pin everyone else, and allow the purpose."""
    current = roster(database)
    for index, folder in enumerate(alliance.member_dirs.values(), 1):
        peers = Peers(folder)
        own = identity_key(folder).public_key().public_bytes_raw()
        peers.accept(current, own_index=index, own_key=own)
        # `Peers.pin` rewrites the file for each peer: too slow for eighty members with eighty pins.
        pins = (
            f'"{entry.member_id}" = "{fingerprint(entry.public_key)}"'
            for entry in current.entries
            if entry.index != index
        )
        (folder / PINS_FILE).write_text("\n".join(["[pinned]", *pins]))
        (folder / "policy.toml").write_text(policy)
