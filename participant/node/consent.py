"""Whether this member agrees to a run: a list of rules, each a pure function.

A node agrees when every rule does. The first rule that says no names the reason; `run explain`
asks them all. Rules that need the records are asked after all that do not: whoever asks for what
the policy does not allow costs this node no look at its data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Literal

from participant.node.drawings import NOT_DRAWN, Drawn, check_groups
from participant.node.policy import Policy
from participant.node.reasons import refusal
from participant.privacy.projection import (
    NOTHING_SPENT,
    Projection,
    Spent,
    project,
    run_epsilon,
    surely_above,
)
from shared.errors import TouchstoneError
from shared.fleet.refusals import APPROVAL_PENDING, OUTSIDE_HOURS
from shared.limits import MIN_GROUP
from shared.model.layout import ModelSpec
from shared.trust.manifest import RunManifest
from shared.trust.roster import Roster

EPSILON_SLACK = 0.01

Said = Literal["", "approved", "refused"]
"""What a person here has said about one exact manifest; nothing yet, if empty."""


@dataclass(frozen=True)
class Facts:
    """What the node knows about itself when it is asked.

    Attributes:
        index: own index in the roster.
        roster: the roster this member has accepted, or None.
        pinned: indices of members whose fingerprint it has pinned.
        rows: labelled rows in the training part.
        smallest_class: rows of the rarer class in the training part.
        contract_holds: whether the records keep the data contract.
        epsilon_spent: evaluation epsilon in the ledger so far.
        spent: everything that the ledger holds against the run.
        privacy_delta: the policy's delta, at which everything spent is composed.
        group_size: members of the group it would be summed in; 0 where nobody is grouped.
        drawn: what it has seen of the drawing of the run's roster.
        smallest_group: the smallest group it lets itself be summed in.
        feature_space: hash of the feature space of the installed software for the run's model.
        schema_version: record schema of the installed software.
        now: current time.
        said: what a person here has said about exactly this manifest.
    """

    index: int
    roster: Roster | None
    pinned: frozenset[int]
    rows: int
    smallest_class: int
    contract_holds: bool
    epsilon_spent: float
    feature_space: bytes
    schema_version: int
    now: datetime
    said: Said = ""
    spent: Spent = NOTHING_SPENT
    privacy_delta: float = 1e-5
    group_size: int = 0
    drawn: Drawn = NOT_DRAWN
    smallest_group: int = MIN_GROUP

    @property
    def roster_size(self) -> int:
        """Members of the accepted roster."""
        return len(self.roster.entries) if self.roster else 0

    def projection(self, manifest: RunManifest) -> Projection | None:
        """Return what a private run would cost; None for any other. Slow, so asked for late."""
        return project(manifest, self.spent, self.privacy_delta) if manifest.private else None


Check = Callable[[Policy, RunManifest, Facts], None]


class Stage(IntEnum):
    """When a rule is asked, and what it needs."""

    RUN = 0
    """First: only the manifest and small files."""

    RECORDS = 1
    """Then: the records, which have to be read for it."""

    PERSON = 2
    """Last: a person is asked only about what the other rules allow, and, so that there is time
    for it, also while the hour is not one to train in."""


@dataclass(frozen=True)
class Rule:
    """One thing a run has to satisfy.

    Attributes:
        name: the policy's key; of what no policy can change, a name in words.
        check: returns, or raises :class:`~shared.errors.PolicyRefused`.
        wanted: what the policy says, in words.
        found: what the run asks for, or what the node has, in words; stays at the member.
        stage: when it is asked.
        each_round: whether it is asked again before every round: what it rests on may change, and
            neither the records nor a roster accepted meanwhile are part of it.
    """

    name: str
    check: Check
    wanted: Callable[[Policy, Facts], str]
    found: Callable[[RunManifest, Facts], str]
    stage: Stage = Stage.RUN
    each_round: bool = False


def consent(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    """Agree to a run by returning; refuse by raising.

    Raises:
        PolicyRefused: with the reason code of the first rule that says no.
    """
    for rule in RULES:
        rule.check(policy, manifest, facts)


def check_run(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    """Ask the rules that need no record; ``facts`` need not know any.

    Raises:
        PolicyRefused: one of them says no.
    """
    for rule in RULES:
        if rule.stage is Stage.RUN:
            rule.check(policy, manifest, facts)


def check_round(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    """Agree to train once more in a run that was agreed to, under the policy as it is now.

    ``facts`` need not know any record: a refusal in the middle of a run must not depend on them.

    Raises:
        PolicyRefused: one of the rules that may have changed says no.
    """
    for rule in RULES:
        if rule.each_round:
            rule.check(policy, manifest, facts)
    # Left out of the policy, the bound follows the alliance: who joins meanwhile ends no run.
    if policy.max_colluders is not None:
        _colluders(policy, manifest, facts)


def _purpose(policy: Policy, manifest: RunManifest) -> None:
    if manifest.purpose not in policy.allowed_purposes:
        raise refusal("purpose_not_allowed")


def _person(policy: Policy, said: Said) -> None:
    if said == "refused":
        raise refusal("refused_by_person")
    if policy.approval == "always" and said != "approved":
        raise refusal(APPROVAL_PENDING)


def _hours(policy: Policy, now: datetime) -> None:
    if not policy.open_at(now):
        raise refusal(OUTSIDE_HOURS)


def _roster(_policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if facts.roster is None or facts.roster.hash() != manifest.roster_hash:
        raise refusal("roster_not_accepted")
    known = {entry.index: entry for entry in facts.roster.entries}
    if any(known.get(member.index) != member for member in manifest.members):
        raise refusal("roster_mismatch")
    if facts.index not in _listed(manifest):
        raise refusal("not_listed")


def _listed(manifest: RunManifest) -> set[int]:
    return {member.index for member in manifest.members}


def _group(manifest: RunManifest, facts: Facts) -> set[int]:
    """Return whom this member would be summed with: its group, where there are several."""
    listed = _listed(manifest)
    if facts.index not in listed:
        return listed
    return set(manifest.peers_of(manifest.group_of(facts.index)))


def _known(manifest: RunManifest, facts: Facts) -> int:
    return len((_group(manifest, facts) - {facts.index}) & facts.pinned)


def _bound(policy: Policy, facts: Facts) -> int:
    """Return the colluders the policy wants to withstand, of a group where there are several."""
    return policy.colluders(facts.group_size or facts.roster_size)


def _peers(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if _known(manifest, facts) < policy.min_known_peers:
        raise refusal("too_few_known_peers")


def _cohort(policy: Policy, manifest: RunManifest, _facts: Facts) -> None:
    if manifest.secure_sum.n_min < policy.min_cohort:
        raise refusal("cohort_too_small")


def _colluders(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if manifest.secure_sum.max_colluders < _bound(policy, facts):
        raise refusal("colluder_bound")


def _threshold(_policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    terms, n = manifest.secure_sum, len(_group(manifest, facts))
    if 2 * terms.threshold <= n + terms.max_colluders or not terms.threshold <= terms.n_min <= n:
        raise refusal("unsound_threshold")
    if terms.n_min < terms.max_colluders + 2:
        raise refusal("cohort_too_small")


def _groups(_policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    check_groups(manifest, facts.drawn, facts.smallest_group)


def _software(_policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if manifest.feature_space != facts.feature_space:
        raise refusal("feature_space")
    if manifest.schema_version != facts.schema_version:
        raise refusal("schema_version")


def _privacy(policy: Policy, manifest: RunManifest, _facts: Facts) -> None:
    if not manifest.private:
        if policy.require_record_dp:
            raise refusal("privacy_floor")
        return
    stated = manifest.epsilon_floor_milli / 1000
    if stated > policy.max_run_epsilon or manifest.privacy.delta > policy.privacy_delta:
        raise refusal("privacy_floor")
    # A distribution of losses is rounded towards more spent, by less than this.
    most = stated + EPSILON_SLACK
    if not _linear(manifest) or surely_above(manifest, most, manifest.privacy.delta):
        raise refusal("privacy_terms")
    if run_epsilon(manifest) > most:
        raise refusal("privacy_terms")


def _linear(manifest: RunManifest) -> bool:
    try:
        return ModelSpec.decode(manifest.model_spec).linear
    except TouchstoneError:  # no model that this software knows
        return False


def _privacy_budget(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if not manifest.private:
        return
    if surely_above(manifest, policy.privacy_budget, policy.privacy_delta):
        raise refusal("privacy_budget")
    projection = facts.projection(manifest)
    if projection is not None and projection.total > policy.privacy_budget:
        raise refusal("privacy_budget")


def _rows(policy: Policy, _manifest: RunManifest, facts: Facts) -> None:
    if facts.rows < policy.min_training_rows:
        raise refusal("too_few_rows")


def _classes(policy: Policy, _manifest: RunManifest, facts: Facts) -> None:
    if facts.smallest_class < policy.min_class_rows:
        raise refusal("too_few_of_a_class")


def _contract(_policy: Policy, _manifest: RunManifest, facts: Facts) -> None:
    if not facts.contract_holds:
        raise refusal("data_contract")


def _budget(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if facts.epsilon_spent + projected_epsilon(manifest) > policy.evaluation_epsilon_budget:
        raise refusal("epsilon_budget")


def _one_evaluation(policy: Policy, manifest: RunManifest, _facts: Facts) -> None:
    if manifest.evaluation.epsilon_milli > round(policy.max_evaluation_epsilon * 1000):
        raise refusal("evaluation_epsilon")


def _days(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if _lifetime(manifest, facts) > policy.max_run_days:
        raise refusal("run_too_long")


def _lifetime(manifest: RunManifest, facts: Facts) -> float:
    """Return for how many days from now the manifest holds; when it begins is not this node's."""
    return (manifest.expires_at - facts.now) / timedelta(days=1)


def projected_epsilon(manifest: RunManifest) -> float:
    """Return the evaluation epsilon a run spends if every round goes well."""
    rounds = sum(manifest.evaluates_in(number) for number in range(1, manifest.rounds + 1))
    return rounds * manifest.evaluation.epsilon_milli / 1000


_RULES: tuple[Rule, ...] = (
    Rule(
        "allowed_purposes",
        lambda policy, manifest, _facts: _purpose(policy, manifest),
        lambda policy, _facts: ", ".join(policy.allowed_purposes) or "none",
        lambda manifest, _facts: manifest.purpose,
        each_round=True,
    ),
    Rule(
        "roster",
        _roster,
        lambda _policy, facts: _epoch(facts.roster.epoch if facts.roster else None),
        lambda manifest, _facts: _epoch(manifest.roster_epoch),
    ),
    Rule(
        "min_known_peers",
        _peers,
        lambda policy, _facts: f"at least {policy.min_known_peers}",
        lambda manifest, facts: (
            f"{_known(manifest, facts)} pinned of {len(_group(manifest, facts))}"
        ),
        each_round=True,
    ),
    Rule(
        "min_cohort",
        _cohort,
        lambda policy, _facts: f"at least {policy.min_cohort}",
        lambda manifest, _facts: f"sums over {manifest.secure_sum.n_min} or more",
        each_round=True,
    ),
    Rule(
        "max_colluders",
        _colluders,
        lambda policy, facts: f"at least {_bound(policy, facts)}",
        lambda manifest, _facts: f"withstands {manifest.secure_sum.max_colluders}",
    ),
    Rule(
        "threshold",
        _threshold,
        lambda _policy, _facts: "two sets cannot both be opened",
        lambda manifest, facts: (
            f"{manifest.secure_sum.threshold} of {len(_group(manifest, facts))}"
        ),
    ),
    Rule(
        "groups",
        _groups,
        lambda _policy, facts: f"{_drawn(facts)}; {facts.smallest_group} members or more in each",
        lambda manifest, _facts: (
            f"{manifest.drawing.count} groups of drawing {manifest.drawing.number}"
            if manifest.grouped
            else "no groups"
        ),
    ),
    Rule(
        "software",
        _software,
        lambda _policy, facts: _versions(facts.feature_space, facts.schema_version),
        lambda manifest, _facts: _versions(manifest.feature_space, manifest.schema_version),
    ),
    Rule(
        "record_privacy",
        _privacy,
        lambda policy, _facts: _wanted_privacy(policy),
        lambda manifest, _facts: _epsilon_floor(manifest.epsilon_floor_milli),
        each_round=True,
    ),
    Rule(
        "privacy_budget",
        _privacy_budget,
        lambda policy, _facts: f"at most {policy.privacy_budget:g} over all runs",
        lambda manifest, facts: _found_privacy(facts.projection(manifest)),
    ),
    Rule(
        "min_training_rows",
        _rows,
        lambda policy, _facts: f"at least {policy.min_training_rows}",
        lambda _manifest, facts: f"{facts.rows} here",
        Stage.RECORDS,
    ),
    Rule(
        "min_class_rows",
        _classes,
        lambda policy, _facts: f"at least {policy.min_class_rows}",
        lambda _manifest, facts: f"{facts.smallest_class} here",
        Stage.RECORDS,
    ),
    Rule(
        "data_contract",
        _contract,
        lambda _policy, _facts: "holds",
        lambda _manifest, facts: "holds" if facts.contract_holds else "fails, see `data check`",
        Stage.RECORDS,
    ),
    Rule(
        "evaluation_epsilon_budget",
        _budget,
        lambda policy, _facts: f"at most {policy.evaluation_epsilon_budget:g} over all runs",
        lambda manifest, facts: (
            f"{facts.epsilon_spent:g} spent in others, {projected_epsilon(manifest):g} in this one"
        ),
    ),
    Rule(
        "max_evaluation_epsilon",
        _one_evaluation,
        lambda policy, _facts: f"at most {policy.max_evaluation_epsilon:g} a round",
        lambda manifest, _facts: f"{manifest.evaluation.epsilon_milli / 1000:g} a round",
    ),
    Rule(
        "max_run_days",
        _days,
        lambda policy, _facts: f"at most {policy.max_run_days:g}",
        lambda manifest, facts: f"{_lifetime(manifest, facts):.1f} left",
    ),
    Rule(
        "approval",
        lambda policy, _manifest, facts: _person(policy, facts.said),
        lambda policy, _facts: policy.approval,
        lambda _manifest, facts: facts.said or "not decided",
        Stage.PERSON,
        each_round=True,
    ),
    Rule(
        "hours",
        lambda policy, _manifest, facts: _hours(policy, facts.now),
        lambda policy, _facts: f"{policy.hours} UTC",
        lambda _manifest, facts: f"{facts.now:%H:%M} UTC",
        Stage.PERSON,
        each_round=True,
    ),
)

RULES: tuple[Rule, ...] = tuple(sorted(_RULES, key=lambda rule: rule.stage))
"""In the order in which they are asked."""


def _epoch(number: int | None) -> str:
    return "none accepted" if number is None else f"epoch {number}"


def _drawn(facts: Facts) -> str:
    return f"as in drawing {facts.drawn.number}" if facts.drawn.revealed else "none drawn here"


def _versions(feature_space: bytes, schema_version: int) -> str:
    return f"feature space {feature_space.hex()[:8]}, schema {schema_version}"


def _epsilon_floor(milli: int) -> str:
    return f"epsilon {milli / 1000:g}" if milli else "not used"


def _wanted_privacy(policy: Policy) -> str:
    needed = "needed" if policy.require_record_dp else "not needed"
    return f"{needed}; epsilon at most {policy.max_run_epsilon:g}"


def _found_privacy(projection: Projection | None) -> str:
    if projection is None:
        return "nothing: not a private run"
    return f"{projection.spent:.3g} spent in others, {projection.total:.3g} with this one"
