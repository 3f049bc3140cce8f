"""The world is hard in the right ways: judged by a plain classifier, apart in time and by actor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from simulations.world import WorldConfig, generate, new_tactic_mask, split, unseen_actors
from tests.support.world import Table, fit, pr_auc, recall_at_precision, scores, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = (7, 4)


@dataclass
class Study:
    """All members of all seeds, scored by models of one view each."""

    truth: np.ndarray
    hard: np.ndarray
    later: np.ndarray
    unseen: np.ndarray
    new_tactic: np.ndarray
    seed: np.ndarray
    score: dict[str, np.ndarray]
    tables: dict[int, list[Table]]


@pytest.fixture(scope="module")
def study() -> Study:
    columns: dict[str, list[np.ndarray]] = {}
    tables: dict[int, list[Table]] = {}
    for seed in SEEDS:
        world = generate(WorldConfig(seed=seed))
        tables[seed] = [table(world, name) for name in world.members]
        models = {view: fit(tables[seed], view) for view in ("all", "text", "tabular")}
        for name, one in zip(world.members, tables[seed], strict=True):
            parts = split(world, name)
            truth = world.members[name].truth
            found = {
                "truth": one.truth,
                "hard": truth["hard_negative"].to_numpy(),
                "later": parts.test,
                "unseen": unseen_actors(world, name) & ~parts.train,
                "new_tactic": new_tactic_mask(world, name),
                "seed": np.full(truth.height, seed),
                **{view: scores(model, one, view) for view, model in models.items()},
                "local": scores(fit([one]), one),
            }
            for key, values in found.items():
                columns.setdefault(key, []).append(values)
    joined = {key: np.concatenate(values) for key, values in columns.items()}
    return Study(
        score={view: joined.pop(view) for view in ("all", "text", "tabular", "local")},
        tables=tables,
        **joined,
    )


def by_seed(study: Study, rows: np.ndarray, view: str) -> float:
    return float(
        np.mean(
            [
                pr_auc(
                    study.truth[rows & (study.seed == s)],
                    study.score[view][rows & (study.seed == s)],
                )
                for s in SEEDS
            ]
        )
    )


def test_splits_are_apart_and_large_enough(study: Study) -> None:
    assert study.truth[study.later].sum() >= 150
    assert study.truth[study.unseen].sum() >= 100


@pytest.mark.parametrize("part", ["later", "unseen"])
def test_neither_text_nor_numbers_suffice(study: Study, part: str) -> None:
    rows = getattr(study, part)
    full = by_seed(study, rows, "all")
    assert full > by_seed(study, rows, "text") + 0.03
    assert full > by_seed(study, rows, "tabular") + 0.03


@pytest.mark.parametrize("part", ["later", "unseen"])
def test_it_is_learnable_but_not_easy(study: Study, part: str) -> None:
    rows = getattr(study, part)
    found = [
        recall_at_precision(
            study.truth[rows & (study.seed == s)], study.score["all"][rows & (study.seed == s)], 0.9
        )
        for s in SEEDS
    ]
    assert all(recall > 0 for recall in found)
    assert np.mean(found) < 0.6
    assert 0.45 < by_seed(study, rows, "all") < 0.88


def test_false_alarms_are_mostly_hard_negatives(study: Study) -> None:
    for seed in SEEDS:
        rows = np.flatnonzero(study.later & (study.seed == seed))
        top = rows[np.argsort(-study.score["all"][rows])[:200]]
        wrong = top[~study.truth[top]]
        assert wrong.size >= 20
        assert study.hard[wrong].mean() >= 0.5


def test_permuted_labels_teach_nothing(study: Study) -> None:
    areas = []
    draws = np.random.default_rng(0)
    for _ in range(4):
        permuted = [
            Table(
                text=one.text,
                tabular=one.tabular,
                truth=one.truth,
                labelled=one.labelled,
                label=_shuffled(one, draws),
                train=one.train,
                test=one.test,
            )
            for one in study.tables[SEEDS[0]]
        ]
        model = fit(permuted, "tabular")
        truth = np.concatenate([one.truth[one.test] for one in permuted])
        score = np.concatenate([scores(model, one, "tabular")[one.test] for one in permuted])
        areas.append(roc_auc_score(truth, score))
    assert 0.45 <= np.mean(areas) <= 0.55


def _shuffled(one: Table, draws: np.random.Generator) -> np.ndarray:
    label = one.label.copy()
    label[one.labelled] = draws.permutation(label[one.labelled])
    return label


def test_pooled_knowledge_beats_a_members_own(study: Study) -> None:
    assert by_seed(study, study.later, "all") > by_seed(study, study.later, "local") + 0.05


def test_what_others_know_finds_tactics_that_are_new_here(study: Study) -> None:
    found = {}
    for view in ("local", "all"):
        score = study.score[view]
        limit = np.quantile(score[study.later & ~study.truth], 0.98)
        found[view] = (score[study.new_tactic] > limit).mean()
    assert study.new_tactic.sum() >= 15
    assert found["all"] > found["local"]
    assert not study.new_tactic[~study.truth].any()
    assert pl.Series(study.later[study.new_tactic]).all()
