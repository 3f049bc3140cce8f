"""A private run from `run start` to a score, with the node's own learner on its own records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from coordinator.db.records import RunState
from coordinator.rounds.plan import RunSettings
from participant.deployment.service import Deployer
from participant.ingest.service import import_file
from participant.node.learner import StoreLearner
from participant.node.registry_client import channel_factory
from participant.node.runtime import NodeRuntime
from participant.privacy.accounting import epsilon_of
from participant.scoring.service import score_file
from participant.store import Store
from shared.domain.schemas import SCHEMAS
from shared.model.metrics import roc_auc
from tests.support.registry import serving
from tests.support.runs import SETTINGS, Federation, federation
from tests.support.store import write_export

PRIVATE = RunSettings(
    **{**SETTINGS.model_dump(), "rounds": 2, "kind": "shop", "dp_epsilon": 8.0, "dp_rows": 300}
)
ROWS = 300


def shops(seed: int) -> pl.DataFrame:
    """Fraudulent shops are young and take cards seldom, with exceptions."""
    draws = np.random.default_rng(seed)
    label = draws.integers(0, 2, ROWS)
    young = np.where(draws.random(ROWS) < 0.85, label, 1 - label)
    cards = np.where(draws.random(ROWS) < 0.8, 1 - label, label)
    age = draws.lognormal(np.where(young == 1, 3.0, 7.0), 0.7)
    rows = [
        {
            "shop_id": f"s{seed}-{number}",
            "host": f"shop-{seed}-{number}-{draws.integers(1 << 40):x}.example",
            "label": int(label[number]),
            "signals": json.dumps({"age": round(age[number], 2), "cards": int(cards[number])}),
        }
        for number in range(ROWS)
    ]
    return pl.DataFrame(rows, schema=SCHEMAS["shops"])


def give_records(fed: Federation, tmp_path: Path, policy: str = "") -> None:
    for index, folder in enumerate(fed.alliance.member_dirs.values(), 1):
        with_store = Store.open(folder)
        import_file(with_store, write_export(shops(index), tmp_path / f"{index}.parquet"), "shops")
        with_store.close()
        text = (folder / "policy.toml").read_text()
        (folder / "policy.toml").write_text(text + policy)
        fed.nodes.running[index] = NodeRuntime(folder, make_learner=StoreLearner)


def ledger_of(folder: Path) -> list[tuple[int, str, str]]:
    store = Store.open(folder)
    try:
        return [(row.round, row.kind, row.mechanism) for row in store.ledger.entries()]
    finally:
        store.close()


@pytest.mark.slow
def test_a_private_run_trains_is_released_deployed_and_scores(tmp_path: Path) -> None:
    with federation(tmp_path) as fed:
        give_records(fed, tmp_path)
        run_id = fed.start(PRIVATE)
        run = fed.drive(run_id)
        assert run.state is RunState.COMPLETED, run
        folder = next(iter(fed.alliance.member_dirs.values()))
        charged = ledger_of(folder)
        assert [entry for entry in charged if entry[1] == "training"] == [
            (number, "training", "gaussian") for number in (1, 2)
        ]
        assert {entry[2] for entry in charged if entry[1] == "evaluation"} == {"laplace"}
        fed.nodes.close()
        store = Store.open(folder)
        spent = epsilon_of(store.ledger.charges(), 1e-5)
        store.close()
        assert 7.0 < spent <= 8.01
        assert run.release_id
        release = bytes.fromhex(run.release_id)
        with serving(fed.alliance, fed.database):
            # The node has judged it when the run ended, and kept its own model or not.
            activated = Deployer(folder).activate(release, channel_factory(folder))
        assert activated.metrics["pr_auc"] > 0.7
        out = tmp_path / "scored.parquet"
        unseen = shops(99)
        score_file(folder, write_export(unseen, tmp_path / "new.parquet"), out, top=3)
        scored = pl.read_parquet(out)
        assert roc_auc(unseen["label"].to_numpy(), scored["risk"].to_numpy()) > 0.75
        assert any("age" in text for texts in scored["reasons"] for text in texts)
