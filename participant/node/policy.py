"""The member's policy: what its node may take part in. Everything is denied until allowed here.

The file is read anew for every run and every round, so an edit takes effect without a restart;
which rules are asked again in a round is in :mod:`participant.node.consent`.
Whether a manifest may be agreed to is decided in :mod:`participant.node.consent`. No environment
variable overrides the file: what a security officer has signed off is what is in force.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import ConfigError
from shared.files import write_atomic
from shared.privacy.terms import MAX_DELTA

POLICY_FILE = "policy.toml"

DEFAULT_TEXT = """\
# What this node may take part in. Everything not allowed here is refused.
# The node reads the file for every run and every round; `touchstone-participant policy check`
# validates it. What your records must be like is asked when a session is set up.

# Purposes of a run this member agrees to, by exact name. An empty list refuses every run.
allowed_purposes = []

# Whether a person here has to approve each run (`run pending`, `run approve`) once the rules below
# allow it: "always", or "never" for a node that trains unattended.
approval = "always"

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

# Largest epsilon that the noise of one round's evaluation may have, and fewest hold-out rows from
# which your evaluation is told at all; with fewer the node sends noise alone. (In a private run
# every hold-out is told: its size would itself say something about the records.)
max_evaluation_epsilon = 2.0
min_holdout_rows = 200

# Longest time, in days from now, for which a run may ask anything of this node.
max_run_days = 30.0

# Whether every run has to protect single records by differential privacy (`--dp-epsilon`), and the
# largest epsilon a private run may state. Your own node adds all of the noise it needs.
require_record_dp = false
max_run_epsilon = 8.0

# What all private runs together may spend: epsilon at this delta, composed with all evaluation
# noise (`privacy ledger`). A run that would exceed it is refused before anything is trained, and a
# repeated round in the middle of a run as well. It does not bound runs without record noise:
# require_record_dp refuses those.
privacy_budget = 20.0
privacy_delta = 1e-5

# Fewest rows with a label, and fewest of each class, before this node trains.
min_training_rows = 50
min_class_rows = 5

# Hours of the day, UTC, in which the node trains; "00:00-24:00" is always. May pass midnight.
# A release is judged at any hour.
hours = "00:00-24:00"

# Processor threads training may use.
threads = 1

# How often a run may repeat a round whose result was lost. Each repeat is one more look.
burnt_rounds = 2

# A release runs here unless a rival (what runs now, your own local-only model) is better on your
# own hold-out: has the higher PR-AUC in at least this share of 400 resamples of it. Against your
# local-only model the release has to win that share itself, on hold-out and calibration part.
accept_rival_wins = 0.8

# Whether a release may run that is not shown to be better than your local-only model.
accept_below_local = false

# A hold-out with fewer rows, or fewer of either class, decides nothing: what runs stays.
accept_min_rows = 20
accept_min_class_rows = 3

# Whether the node may put a personal head, fitted on your own records, on top of a release. It is
# used only if it wins the share above against the bare release.
personal_head = true
"""


class Policy(BaseModel):
    """One member's rules; see the comments in the file it is read from."""

    # Infinity is no budget, and JSON has no word for it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    allowed_purposes: tuple[str, ...] = ()
    approval: Literal["always", "never"] = "always"
    min_cohort: int = Field(5, ge=2)
    max_colluders: int | None = Field(None, ge=0)
    min_known_peers: int = Field(2, ge=0)
    evaluation_epsilon_budget: float = Field(100.0, ge=0)
    max_evaluation_epsilon: float = Field(2.0, gt=0, le=100)
    min_holdout_rows: int = Field(200, ge=1)
    max_run_days: float = Field(30.0, gt=0, le=3650)
    require_record_dp: bool = False
    max_run_epsilon: float = Field(8.0, gt=0, le=100)
    privacy_budget: float = Field(20.0, ge=0, le=100)
    privacy_delta: float = Field(1e-5, gt=0, le=MAX_DELTA)
    min_training_rows: int = Field(50, ge=1)
    min_class_rows: int = Field(5, ge=0)
    hours: str = "00:00-24:00"
    threads: int = Field(1, ge=1, le=256)
    burnt_rounds: int = Field(2, ge=0)
    accept_rival_wins: float = Field(0.8, ge=0.5, le=1)
    accept_below_local: bool = False
    accept_min_rows: int = Field(20, ge=1)
    accept_min_class_rows: int = Field(3, ge=1)
    personal_head: bool = True

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
        start, end = (_minute(part.strip()) for part in span.split("-"))
    except ValueError as error:
        raise ValueError('hours are written "22:00-06:00"') from error
    if not (0 <= start <= 1440 and 0 <= end <= 1440):
        raise ValueError('hours lie between "00:00" and "24:00"')
    if start == end:
        raise ValueError('hours that end when they begin are unclear; always is "00:00-24:00"')
    return start, end


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    if not 0 <= int(minutes) < 60:
        raise ValueError("an hour has 60 minutes")
    return int(hours) * 60 + int(minutes)


def load_policy(path: Path) -> Policy:
    """Read a policy file strictly.

    Raises:
        ConfigError: it is missing, not TOML, has an unknown key or a value out of range.
    """
    return checked(values_in(policy_text(path)))


def policy_text(path: Path) -> str:
    """Return the text of a policy file.

    Raises:
        ConfigError: there is none, or it is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no policy at {path}",
            hint="`touchstone-participant policy init` writes a commented one",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8") from error


def values_in(text: str) -> dict[str, Any]:
    """Return what a policy file sets, not yet checked.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{POLICY_FILE} is not valid TOML: {error}") from error


def checked(values: Mapping[str, Any]) -> Policy:
    """Return the policy with these rules.

    Raises:
        ConfigError: there is no such rule, or a value is out of range; names the rule.
    """
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or POLICY_FILE
        raise ConfigError(f"{POLICY_FILE}: {where}: {first['msg'].lower()}") from error


def policy_digest(path: Path) -> str:
    """Return SHA-256 of a policy file in hex, as `sha256sum` prints it; empty if there is none.

    The audit log names it with every answer, so that an answer can be held against the very file
    that somebody has signed off.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def write_default(path: Path) -> None:
    """Write the commented, deny-everything policy unless there is one already."""
    if not path.exists():
        write_atomic(path, DEFAULT_TEXT.encode(), mode=0o600)
