"""Is the state folder whole, private, and in the right hands?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.daemon import LOCK_FILE
from participant.node.peers import Peers
from participant.node.policy import load_policy
from participant.node.vault import boot_binding
from shared.doctor import places
from shared.doctor.report import Check, ok, warn

FOLDERS = (".", "keys", "secsum", "store")
FILES = ("*.toml", "keys/*.key.pem", "secsum/*.bin", "store/touchstone.db*")


def check_config(state_dir: Path) -> Check:
    """Check ``node.toml``."""
    config = NodeConfig.load(state_dir)
    return ok("config", f"member {config.member.member_id!r} of {config.alliance.name!r}")


def check_policy(state_dir: Path) -> Check:
    """Check ``policy.toml``."""
    if not load_policy(state_dir / "policy.toml").allowed_purposes:
        return warn(
            "policy",
            "policy_refuses_all",
            "allowed_purposes is empty, so every run is refused",
            "name the purposes this member agrees to in policy.toml",
        )
    return ok("policy", "the policy is valid")


def check_peers(state_dir: Path) -> Check:
    """Check that a roster was accepted, and that as many peers are pinned as the policy demands."""
    peers, needed = Peers(state_dir), load_policy(state_dir / "policy.toml").min_known_peers
    if peers.roster() is None:
        return warn(
            "peers",
            "no_roster",
            "no roster was accepted, so every run is refused",
            "touchstone-participant peers accept, then pin those you have talked to",
        )
    if len(peers.pinned_indices()) < needed:
        return warn(
            "peers",
            "too_few_pinned",
            f"fewer peers are pinned than min_known_peers = {needed}, so every run is refused",
            "talk to more members and pin their fingerprints with peers pin",
        )
    return ok("peers", "a roster is accepted, and enough peers are pinned")


def check_modes(state_dir: Path) -> Iterator[Check]:
    """Check that nobody else on this machine can read keys, secrets or records."""
    return places.check_private(state_dir, FOLDERS, FILES)


def check_process(state_dir: Path) -> Check:
    """Check whether the node is up; nothing is changed."""
    hint = "start it with touchstone-participant up"
    return places.check_process(state_dir / LOCK_FILE, "the node", hint)


def check_secrets(state_dir: Path) -> Check:
    """Check that the secrets of open runs, if any, are of this boot of the machine."""
    folder = state_dir / "secsum"
    sessions = len(list(folder.glob("session-*.bin")))
    mark = folder / "boot"
    if sessions and (not mark.exists() or mark.read_bytes() != boot_binding()):
        return warn(
            "secrets",
            "secrets_of_another_boot",
            f"{sessions} open sessions are of another boot of this machine",
            "nothing to do: the node wipes them when it starts and joins the next session",
        )
    return ok("secrets", f"{sessions} open sessions, of this boot")
