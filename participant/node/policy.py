"""The member's policy: what its node may take part in. Everything is denied until allowed here.

The file is read anew for every run, so an edit takes effect without a restart. A manifest is
checked by :func:`consent`, a pure function; every refusal has a stable reason code.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import ConfigError, PolicyRefused
from shared.files import write_atomic
from shared.trust.manifest import RunManifest
from shared.trust.roster import Roster

DEFAULT_TEXT = """\
# What this node may take part in. Everything not allowed here is refused.
# The node reads the file for every run; `touchstone-participant policy check` validates it.

# Purposes of a run this member agrees to, by exact name. An empty list refuses every run.
allowed_purposes = []

# Fewest members whose updates may be summed. The coordinator sees sums over no fewer.
min_cohort = 5

# How many of the others may side with the coordinator without any of your updates being opened.
# Left out: a third of the alliance, less one. A small alliance has to lower it knowingly.
# max_colluders = 1

# Of those summed with you, at least this many must be members whose fingerprint you pinned
# (`peers pin`): the coordinator runs the certificate authority and could invent members.
min_known_peers = 2

# Sum of epsilon, over all runs, that evaluation noise may spend.
evaluation_epsilon_budget = 100.0

# Fewest rows with a label, and fewest of each class, before this node trains.
min_training_rows = 50
min_class_rows = 5

# Hours of the day, UTC, in which the node trains; "00:00-24:00" is always.
hours = "00:00-24:00"

# Processor threads training may use.
threads = 1

# How often a run may repeat a round whose result was lost. Each repeat is one more look.
burnt_rounds = 2
"""


class Policy(BaseModel):
    """One member's rules; see the comments in the file it is read from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed_purposes: tuple[str, ...] = ()
    min_cohort: int = Field(5, ge=2)
    max_colluders: int | None = Field(None, ge=0)
    min_known_peers: int = Field(2, ge=0)
    evaluation_epsilon_budget: float = Field(100.0, ge=0)
    min_training_rows: int = Field(50, ge=1)
    min_class_rows: int = Field(5, ge=0)
    hours: str = "00:00-24:00"
    threads: int = Field(1, ge=1, le=256)
    burnt_rounds: int = Field(2, ge=0)

    @field_validator("hours")
    @classmethod
    def _hours_are_a_span(cls, value: str) -> str:
        _minutes(value)
        return value

    def colluders(self, roster_size: int) -> int:
        """Return m for an alliance of ``roster_size`` members."""
        if self.max_colluders is not None:
            return self.max_colluders
        return max(0, math.ceil(roster_size / 3) - 1)

    def open_at(self, now: datetime) -> bool:
        """Tell whether the node may train at this time (UTC)."""
        start, end = _minutes(self.hours)
        minute = now.hour * 60 + now.minute
        return start <= minute < end if start <= end else minute >= start or minute < end


def _minutes(span: str) -> tuple[int, int]:
    try:
        start, end = (
            int(hours) * 60 + int(minutes)
            for hours, minutes in (part.strip().split(":") for part in span.split("-"))
        )
    except ValueError as error:
        raise ValueError('hours are written "22:00-06:00"') from error
    if not (0 <= start <= 1440 and 0 <= end <= 1440):
        raise ValueError('hours lie between "00:00" and "24:00"')
    return start, end


def load_policy(path: Path) -> Policy:
    """Read a policy file strictly.

    Raises:
        ConfigError: it is missing, not TOML, has an unknown key or a value out of range.
    """
    try:
        return Policy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no policy at {path}",
            hint="`touchstone-participant policy init` writes a commented one",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or path.name
        raise ConfigError(f"{path.name}: {where}: {first['msg'].lower()}") from error


def write_default(path: Path) -> None:
    """Write the commented, deny-everything policy unless there is one already."""
    if not path.exists():
        write_atomic(path, DEFAULT_TEXT.encode(), mode=0o600)


@dataclass(frozen=True)
class Facts:
    """What the node knows about itself when it is asked.

    Attributes:
        index: own index in the roster.
        roster: the roster this member has accepted, or None.
        pinned: indices of members whose fingerprint it has pinned.
        rows: labelled rows in the training part.
        smallest_class: rows of the rarer class in the training part.
        epsilon_spent: evaluation epsilon in the ledger so far.
        feature_space: hash of the feature space of the installed software for the run's model.
        schema_version: record schema of the installed software.
        now: current time.
    """

    index: int
    roster: Roster | None
    pinned: frozenset[int]
    rows: int
    smallest_class: int
    epsilon_spent: float
    feature_space: bytes
    schema_version: int
    now: datetime


def consent(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    """Agree to a run by returning; refuse by raising.

    Raises:
        PolicyRefused: with the reason code of the first rule that says no.
    """
    _check_members(policy, manifest, facts)
    _check_secure_sum(policy, manifest, facts)
    _check_data(policy, manifest, facts)


def _refuse(reason: str, text: str) -> PolicyRefused:
    return PolicyRefused(reason, text, hint="see policy.toml of this node")


def _check_members(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if manifest.purpose not in policy.allowed_purposes:
        raise _refuse("purpose_not_allowed", "the policy does not allow this purpose")
    if facts.roster is None or facts.roster.hash() != manifest.roster_hash:
        raise _refuse("roster_not_accepted", "the run's roster is not the one accepted here")
    known = {entry.index: entry for entry in facts.roster.entries}
    if any(known.get(member.index) != member for member in manifest.members):
        raise _refuse("roster_mismatch", "the run lists a member the roster does not know")
    listed = {member.index for member in manifest.members}
    if facts.index not in listed:
        raise _refuse("not_listed", "the run does not list this member")
    if len((listed - {facts.index}) & facts.pinned) < policy.min_known_peers:
        raise _refuse("too_few_known_peers", "too few of the listed members are pinned here")


def _check_secure_sum(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    terms, n = manifest.secure_sum, len(manifest.members)
    if terms.n_min < policy.min_cohort:
        raise _refuse("cohort_too_small", "the run would sum fewer members than the policy allows")
    assert facts.roster is not None  # noqa: S101 - _check_members has refused otherwise
    colluders = policy.colluders(len(facts.roster.entries))
    if terms.max_colluders < colluders:
        raise _refuse("colluder_bound", "the run assumes fewer colluders than the policy does")
    if 2 * terms.threshold <= n + terms.max_colluders or not terms.threshold <= terms.n_min <= n:
        raise _refuse("unsound_threshold", "the run's threshold does not protect against two sets")
    if terms.n_min < terms.max_colluders + 2:
        raise _refuse("cohort_too_small", "colluders could subtract themselves and see one member")


def _check_data(policy: Policy, manifest: RunManifest, facts: Facts) -> None:
    if manifest.feature_space != facts.feature_space:
        raise _refuse("feature_space", "the run uses a feature space this software does not have")
    if manifest.schema_version != facts.schema_version:
        raise _refuse("schema_version", "the run uses another version of the record schema")
    if manifest.epsilon_floor_milli:
        raise _refuse("privacy_mode", "this software does not train with record-level privacy")
    if facts.rows < policy.min_training_rows:
        raise _refuse("too_few_rows", "too few labelled rows to train on")
    if facts.smallest_class < policy.min_class_rows:
        raise _refuse("too_few_of_a_class", "too few rows of one class to train on")
    if not policy.open_at(facts.now):
        raise _refuse("outside_hours", "the policy does not allow training at this hour")
    if facts.epsilon_spent + projected_epsilon(manifest) > policy.evaluation_epsilon_budget:
        raise _refuse("epsilon_budget", "the evaluation noise of this run exceeds the budget")


def projected_epsilon(manifest: RunManifest) -> float:
    """Return the evaluation epsilon a run spends if every round goes well."""
    rounds = sum(manifest.evaluates_in(number) for number in range(1, manifest.rounds + 1))
    return rounds * manifest.evaluation.epsilon_milli / 1000
