"""One federation, measured member by member, with the node's own rule deciding what runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from participant.deployment.acceptance import Reason, Rule
from participant.deployment.candidate import Candidate
from participant.deployment.evidence import Evidence, Judged
from participant.training.baseline import fit_local
from participant.training.inference import logits_of
from shared.model.layout import ModelSpec
from shared.model.metrics import bootstrap_difference, pr_auc, roc_auc
from simulations.studies.member_size.federation import federate
from simulations.studies.member_size.member import StudyMember, pooled

F32 = npt.NDArray[np.float32]

MODELS = ("local", "federated", "personalised", "pooled", "runs", "lenient")
"""``personalised``: the release with a head where the node kept one, else the bare release.
``runs``: what the acceptance rule lets run, one of local and personalised. ``lenient``: what it
would let run with ``accept_below_local``."""

SAMPLES = 1000
RELEASE_ID = "00" * 16


@dataclass(frozen=True)
class Outcome:
    """One member in one federation.

    Attributes:
        source: ``world``, ``shops`` or ``messages``.
        seed: of the federation.
        name: the member's.
        size: its labelled records.
        holdout: rows of its hold-out and counterfeits among them.
        test: rows of its test part and counterfeits among them.
        pr_auc: by model, on the test part.
        roc_auc: likewise.
        reason: why the rule decided as it did.
        head: why a personal head is used or not.
        holdout_difference: hold-out PR-AUC of what runs less the local-only model's; None where
            the hold-out could not tell.
        test_low: 2.5th percentile of the same difference on the test part, over resamples.
        test_high: 97.5th percentile.
        test_p: one-sided p-value of the same, against the hypothesis that what runs is not worse,
            by the normal distribution with the resamples' deviation.
    """

    source: str
    seed: int
    name: str
    size: int
    holdout: tuple[int, int]
    test: tuple[int, int]
    pr_auc: dict[str, float]
    roc_auc: dict[str, float]
    reason: str
    head: str
    holdout_difference: float | None
    test_low: float
    test_high: float
    test_p: float

    @property
    def keeps_local(self) -> bool:
        """Whether the rule let the local-only model run."""
        return self.reason in (Reason.LOCAL_IS_BETTER.value, Reason.NOT_SHOWN.value)

    @property
    def worse_on_holdout(self) -> bool:
        """Whether what runs ranks the member's own hold-out worse than its local-only model."""
        return self.holdout_difference is not None and self.holdout_difference < 0

    @property
    def worse_on_test(self) -> bool:
        """Whether what runs is worse on the test part by the bootstrap's 95 % interval."""
        return self.test_high < 0

    @classmethod
    def of(cls, data: dict[str, Any]) -> Outcome:
        """Read what :func:`dataclasses.asdict` made of one, by way of JSON."""
        pairs = {name: tuple(data[name]) for name in ("holdout", "test")}
        return cls(**{**data, **pairs})


def federation_outcomes(
    source: str, seed: int, members: list[StudyMember], spec: ModelSpec, folder: Path
) -> Iterator[Outcome]:
    """Train one federation and the models beside it; yield each member's outcome.

    Args:
        source: ``world``, ``shops`` or ``messages``.
        seed: of the federation.
        members: all of them.
        spec: the model.
        folder: for the members' local-only models; may be thrown away afterwards.
    """
    vector = federate(spec, members, seed=seed)
    together = fit_local(pooled(members)).vector
    for member in members:
        yield _outcome(source, seed, member, folder / member.name, vector, together)


def _outcome(
    source: str, seed: int, member: StudyMember, folder: Path, vector: F32, together: F32
) -> Outcome:
    training = member.training
    kind = "shop" if source == "shops" else "listing"
    evidence = Evidence(folder, kind, lambda _kind, _spec: training, Rule())
    release = Candidate(RELEASE_ID, "", "0" * 64, kind, 1, training.spec, vector)
    judged = evidence.judge(release, None)
    local = evidence.local(training.spec)
    if local is None:
        raise ValueError(f"{member.name} has nothing to train on")
    vectors = {
        "local": local.vector,
        "federated": vector,
        "personalised": judged.candidate.vector,
        "pooled": together,
        "runs": judged.candidate.vector if judged.verdict.accept else local.vector,
        "lenient": judged.candidate.vector if _lenient(judged) else local.vector,
    }
    scored = {n: logits_of(training.spec, v, member.test) for n, v in vectors.items()}
    drawn = bootstrap_difference(
        member.truth, scored["runs"], scored["local"], pr_auc, seed=seed, samples=SAMPLES
    )
    low, high = np.percentile(drawn, (2.5, 97.5))
    found = {name: pr_auc(member.truth, one) for name, one in scored.items()}
    return Outcome(
        source=source,
        seed=seed,
        name=member.name,
        size=member.size,
        holdout=_counts(training.part("holdout")[1]),
        test=_counts(member.truth),
        pr_auc=found,
        roc_auc={name: roc_auc(member.truth, one) for name, one in scored.items()},
        reason=judged.verdict.reason.value,
        head=judged.trial.reason.value,
        holdout_difference=_on_holdout(judged),
        test_low=float(low),
        test_high=float(high),
        test_p=_p_value(found["runs"] - found["local"], float(drawn.std())),
    )


def _p_value(difference: float, deviation: float) -> float:
    """Return how likely a difference as low as this is between equally good models."""
    return float(norm.cdf(difference / deviation)) if deviation > 0 else 1.0


def _counts(labels: npt.NDArray[np.int8]) -> tuple[int, int]:
    return int(labels.size), int(labels.sum())


def _on_holdout(judged: Judged) -> float | None:
    """Return by how much what runs beats the local-only model on the hold-out; 0 if it is that."""
    if not judged.verdict.duels:
        return None
    return judged.verdict.duels[0].difference if judged.verdict.accept else 0.0


def _lenient(judged: Judged) -> bool:
    """Tell whether the release would run if the burden of proof were the local-only model's."""
    return all(one.rival_wins < Rule().rival_wins for one in judged.verdict.duels)
