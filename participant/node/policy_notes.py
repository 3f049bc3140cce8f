"""Remarks on a valid policy for whoever signs it off: what is wide, and what refuses everything."""

from __future__ import annotations

import stat
from pathlib import Path

from participant.node.peers import Peers
from participant.node.policy import POLICY_FILE, Policy

SMALL_COHORT = 5
"""The default floor: a sum over fewer says a good deal about each of its members."""

MUCH_EVALUATION = 100.0
"""The default budget: a hundred evaluations at the usual epsilon of 1."""

FEW_ROWS = 10
"""Below this an update is little else than its rows; the default is 50."""


def notes(state_dir: Path, policy: Policy) -> list[str]:
    """Return remarks on a valid policy, in the order of its rules."""
    about_file = _about_file(state_dir / POLICY_FILE)
    return [*_wide(policy), *_unbounded(policy), *_about_peers(state_dir, policy), *about_file]


def _wide(policy: Policy) -> list[str]:
    found = []
    if not policy.allowed_purposes:
        found.append("allowed_purposes is empty, so every run is refused")
    if policy.approval == "never":
        found.append("approval is never: runs within the rules need no person's word")
    if policy.min_cohort < SMALL_COHORT:
        found.append(f"min_cohort is {policy.min_cohort}: a sum over so few tells of each of them")
    if policy.max_colluders == 0:
        found.append("max_colluders is 0: one member that sides with the coordinator is too many")
    return found


def _unbounded(policy: Policy) -> list[str]:
    found = []
    if not policy.require_record_dp:
        found.append(
            "require_record_dp is false: privacy_budget bounds private runs only; a run without "
            "noise for single records is agreed to whatever has been spent"
        )
    if policy.evaluation_epsilon_budget >= MUCH_EVALUATION:
        found.append(
            f"evaluation_epsilon_budget is {policy.evaluation_epsilon_budget:g}: so much epsilon "
            "bounds what evaluations tell of a hold-out row in name only"
        )
    rows = policy.min_training_rows
    if policy.privacy_delta * rows >= 1:
        found.append(
            f"privacy_delta is {policy.privacy_delta:g}, min_training_rows {rows}: with a delta of "
            "one in so many rows, giving one of them away would count as private"
        )
    if rows < FEW_ROWS:
        found.append(f"min_training_rows is {rows}: an update of so few rows tells of each")
    if policy.min_class_rows == 0:
        found.append("min_class_rows is 0: a run may train on records of one class alone")
    return found


def _about_peers(state_dir: Path, policy: Policy) -> list[str]:
    peers = Peers(state_dir)
    roster, pinned = peers.roster(), len(peers.pinned_indices())
    found = []
    if policy.min_known_peers == 0:
        found.append("min_known_peers is 0: the coordinator could invent everybody but you")
    elif roster is None:
        found.append("no roster has been accepted, so every run is refused: `peers accept`")
    elif pinned < policy.min_known_peers:
        found.append(
            f"{pinned} peers are pinned, min_known_peers is {policy.min_known_peers}: "
            "every run is refused"
        )
    if roster is not None and policy.min_cohort > len(roster.entries):
        found.append("min_cohort is larger than the alliance, so every run is refused")
    return found


def _about_file(path: Path) -> list[str]:
    others = stat.S_IMODE(path.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    return [f"{path.name} can be changed by others: chmod 600"] if others else []
