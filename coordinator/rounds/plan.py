"""From the operator's settings and the roster to a signed run manifest. Pure."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from coordinator.rounds.private_plan import plan_private
from shared.domain.vocabulary import SCHEMA_VERSION
from shared.errors import BadInput, StateError
from shared.limits import MAX_GROUP, MIN_GROUP
from shared.model.layout import ModelSpec, feature_space_hash, init_vector
from shared.privacy.terms import MAX_DELTA, MAX_STEPS, NOT_PRIVATE, RATE, STEPS
from shared.secagg import default_n_min, default_threshold
from shared.secagg.groups import MEAN, MEDIAN, MIN_MEDIAN_GROUPS, group_count
from shared.trust.grouping import UNGROUPED, Drawing
from shared.trust.manifest import (
    EvaluationTerms,
    RunManifest,
    SecureSumTerms,
    Timeouts,
    TrainingTerms,
)
from shared.trust.roster import Roster, RosterEntry


class RunSettings(BaseModel):
    """What the operator chooses for one run; stored with the run.

    Attributes:
        rounds: training rounds.
        purpose: members allow purposes by name.
        kind: ``listing`` or ``shop``.
        members: names of the members asked; empty means all active ones.
        hash_bits: rows of the hashed space, as a power of two.
        max_colluders: m; left out, a third of the members less one.
        n_min: fewest members summed; left out, the least that m and the threshold allow.
        local_epochs: passes over a member's data a round.
        learning_rate: SGD step.
        batch_size: rows a step.
        full_weight_rows: with ``bucketed``, training rows from which a member weighs 1.
        weighting: ``uniform`` or ``bucketed``.
        evaluate_every: rounds between two secure evaluations.
        evaluation_epsilon: epsilon of the evaluation noise, each time.
        min_holdout: a member with fewer hold-out rows sends pure noise.
        dp_epsilon: epsilon of record-level differential privacy for the whole run; None for a run
            without it. A private run trains the compact linear model by ``dp_steps`` noisy steps a
            round and has no use for ``hash_bits``, ``local_epochs``, ``learning_rate`` and
            ``batch_size``.
        dp_delta: delta of the whole run.
        dp_steps: noisy full-batch steps a round.
        dp_rate: their learning rate.
        dp_rows: records from which a member counts in full; left out, more for less epsilon.
        seed: of the first model.
        setup_s: seconds a step of the set-up may take.
        mask_s: seconds a member may train.
        away_s: seconds a round waits when everyone still missing is disconnected.
        unmask_s: seconds a step of the unmasking may take.
        expires_hours: lifetime of the run's manifest.
        keep_masked: keep every summed masked vector for the audit; the manifest promises it.
        groups: in how many groups members are summed; left out, one up to 64 members.
        robust: how groups are combined: ``mean``, or ``median-of-groups`` (at least 5).
        draw_s: seconds that each of the two steps of drawing groups waits for members.
        unsafe_min_group: smallest group; below 40 the promise of the groups does not hold, so
            that only tests and simulations may lower it. No command offers it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(10, ge=1, le=1000)
    purpose: str = Field("counterfeit-detection", min_length=1, max_length=120)
    kind: str = Field("listing", pattern="^(listing|shop)$")
    members: tuple[str, ...] = ()
    hash_bits: int = Field(16, ge=10, le=20)
    max_colluders: int | None = Field(None, ge=0)
    n_min: int | None = Field(None, ge=2)
    local_epochs: int = Field(3, ge=1, le=100)
    learning_rate: float = Field(0.3, ge=0.001, le=10)
    batch_size: int = Field(32, ge=1, le=65536)
    full_weight_rows: int = Field(2000, ge=1)
    weighting: str = Field("uniform", pattern="^(uniform|bucketed)$")
    evaluate_every: int = Field(5, ge=1)
    evaluation_epsilon: float = Field(1.0, gt=0, le=100)
    min_holdout: int = Field(200, ge=1)
    dp_epsilon: float | None = Field(None, gt=0, le=100)
    dp_delta: float = Field(1e-5, gt=1e-9, le=MAX_DELTA)
    dp_steps: int = Field(STEPS, ge=1, le=MAX_STEPS)
    dp_rate: float = Field(RATE, ge=0.001, le=10_000)
    dp_rows: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    setup_s: int = Field(30, ge=1, le=3600)
    mask_s: int = Field(3600, ge=1, le=86400)
    away_s: int = Field(60, ge=1, le=86400)
    unmask_s: int = Field(60, ge=1, le=3600)
    expires_hours: int = Field(72, ge=1, le=24 * 90)
    keep_masked: bool = False
    groups: int | None = Field(None, ge=1, le=100)
    robust: str = Field(MEAN, pattern=f"^({MEAN}|{MEDIAN})$")
    draw_s: int = Field(600, ge=1, le=86400)
    unsafe_min_group: int = Field(MIN_GROUP, ge=2, le=MAX_GROUP)

    def model_spec(self) -> ModelSpec:
        """Return the shape of the model to be trained."""
        return ModelSpec.compact() if self.dp_epsilon else ModelSpec(hash_bits=self.hash_bits)

    def first_model(self) -> NDArray[np.float32]:
        """Return the model that round 1 starts from, float32 [n_params]."""
        return init_vector(self.model_spec(), self.seed)


def choose_members(settings: RunSettings, roster: Roster) -> tuple[RosterEntry, ...]:
    """Return the members asked, ascending by index.

    Raises:
        NotFound: a name is not on the roster.
    """
    if not settings.members:
        return roster.entries
    return tuple(sorted(roster.by_name(name) for name in set(settings.members)))


def planned_groups(settings: RunSettings, members: int) -> int:
    """Return in how many groups ``members`` are summed.

    Raises:
        BadInput: no number of groups fits them, or the settings contradict each other.
    """
    count = group_count(members, settings.groups, floor=settings.unsafe_min_group)
    if count > 1 and settings.members:
        raise BadInput(
            "members of a run in groups cannot be named: the draw decides for the whole roster",
            hint=f"name at most {MAX_GROUP} members, or none",
        )
    if settings.robust == MEDIAN and count < MIN_MEDIAN_GROUPS:
        raise BadInput(
            f"a median needs at least {MIN_MEDIAN_GROUPS} groups, {members} members make {count}",
            hint=f"it takes {MIN_MEDIAN_GROUPS * settings.unsafe_min_group} members",
        )
    return count


def secure_sum_terms(settings: RunSettings, n: int) -> SecureSumTerms:
    """Return the secure sum's parameters for a group of ``n`` members.

    Raises:
        StateError: no sound parameters exist for so few members.
        BadInput: the fewest members summed are fewer than the threshold.
    """
    m = settings.max_colluders
    m = max(0, math.ceil(n / 3) - 1) if m is None else m
    threshold = default_threshold(n, m)
    n_min = settings.n_min or default_n_min(threshold, m)
    if n_min > n or threshold > n:
        raise StateError(
            f"{n} member{'s are' if n != 1 else ' is'} too few: {max(n_min, threshold)} must stay "
            f"to the end when {m} of them may collude with the coordinator",
            hint="invite more members" + (", or lower --max-colluders knowingly" if m else ""),
        )
    if n_min < threshold:
        raise BadInput(f"--n-min must be {threshold} or more, the threshold of {n} members")
    # docs, the secure sum, What is summed: n * (2**b - 1) must fit a lane of 21 bits.
    return SecureSumTerms(threshold, n_min, m, value_bits=16 if n <= 32 else 15)


def build_manifest(
    settings: RunSettings,
    roster: Roster,
    key: Ed25519PrivateKey,
    run_id: bytes,
    now: datetime,
    drawn: tuple[tuple[int, ...], Drawing] | None = None,
) -> RunManifest:
    """Return the manifest of a new run; raises as the functions above.

    Args:
        settings: the operator's.
        roster: of the current epoch.
        key: the coordinator's.
        run_id: 16 bytes.
        now: when the manifest is made.
        drawn: in a run in groups, the members drawn, ascending, and their drawing.
    """
    members, drawing = choose_members(settings, roster), UNGROUPED
    if drawn is not None:
        members, drawing = tuple(map(roster.by_index, drawn[0])), drawn[1]
    elif planned_groups(settings, len(members)) > 1:
        raise BadInput("the groups of this run have not been drawn")
    spec, private = settings.model_spec(), plan_private(settings)
    sums = secure_sum_terms(settings, -(-len(members) // drawing.count))
    now = now.replace(microsecond=0)
    return RunManifest(
        alliance_id=roster.alliance_id,
        run_id=run_id,
        purpose=settings.purpose,
        kind=settings.kind,
        rounds=settings.rounds,
        roster_epoch=roster.epoch,
        roster_hash=roster.hash(),
        members=members,
        coordinator_key=key.public_key().public_bytes_raw(),
        model_spec=spec.encode(),
        feature_space=feature_space_hash(spec),
        schema_version=SCHEMA_VERSION,
        initial_model=hashlib.sha256(settings.first_model().tobytes()).digest(),
        epsilon_floor_milli=round((settings.dp_epsilon or 0) * 1000),
        created_at=now,
        expires_at=now + timedelta(hours=settings.expires_hours),
        secure_sum=private.clips(spec, sums) if private else sums,
        training=private.training if private else _plain_training(settings),
        evaluation=private.evaluation if private else _plain_evaluation(settings),
        timeouts=Timeouts(settings.setup_s, settings.mask_s, settings.away_s, settings.unmask_s),
        robust=settings.robust,
        drawing=drawing,
        privacy=private.terms if private else NOT_PRIVATE,
        keep_masked=settings.keep_masked,
    )


def _plain_training(settings: RunSettings) -> TrainingTerms:
    return TrainingTerms(
        settings.local_epochs,
        round(settings.learning_rate * 1000),
        settings.batch_size,
        settings.full_weight_rows,
        settings.weighting,
    )


def _plain_evaluation(settings: RunSettings) -> EvaluationTerms:
    return EvaluationTerms(
        settings.evaluate_every,
        round(settings.evaluation_epsilon * 1000),
        settings.min_holdout,
    )
