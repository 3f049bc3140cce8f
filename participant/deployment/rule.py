"""The acceptance rule's numbers, as the member's policy file gives them."""

from __future__ import annotations

from pathlib import Path

from participant.deployment.acceptance import Rule
from participant.node.policy import load_policy


def rule_of(state_dir: Path) -> Rule:
    """Return the rule of a state folder, read anew; the default one before there is a policy.

    Raises:
        ConfigError: the policy cannot be read, so nothing is decided.
    """
    path = state_dir / "policy.toml"
    if not path.exists():
        return Rule()
    policy = load_policy(path)
    return Rule(
        rival_wins=policy.accept_rival_wins,
        min_rows=policy.accept_min_rows,
        min_class=policy.accept_min_class_rows,
        below_local=policy.accept_below_local,
        personal=policy.personal_head,
    )
