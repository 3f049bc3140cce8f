"""The examination: every check, in the order in which a person would go about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from participant.doctor import certificates, folder, network, records
from shared.clock import Clock, SystemClock
from shared.doctor import installation, places
from shared.doctor.report import Examine, Report, examined

Progress = Callable[[str], None]


def examine(
    state_dir: Path,
    *,
    offline: bool = False,
    deep: bool = False,
    clock: Clock | None = None,
    progress: Progress = lambda _name: None,
) -> Report:
    """Look a node over; nothing that is wrong keeps the later checks from being made.

    Args:
        state_dir: the member's state folder; it need not be whole.
        offline: leave the network alone.
        deep: compare all stored records with their digests, however long it takes.
        clock: for certificates and the comparison with the coordinator's clock.
        progress: told the name of each check that begins.
    """
    checks = _checks(state_dir, offline, deep, clock or SystemClock())
    return examined(places.only_what_is_there(state_dir, checks), progress)


def _checks(state_dir: Path, offline: bool, deep: bool, clock: Clock) -> dict[str, Examine]:
    def reach() -> Examine:
        if offline:
            return network.network_skipped
        return lambda: network.check_network(state_dir, clock)

    return {
        "python": installation.check_python,
        "packages": lambda: installation.check_packages("participant"),
        "flower": installation.check_flower,
        "config": lambda: folder.check_config(state_dir),
        "policy": lambda: folder.check_policy(state_dir),
        "peers": lambda: folder.check_peers(state_dir),
        "modes": lambda: folder.check_modes(state_dir),
        "disk": lambda: places.check_disk(state_dir),
        "process": lambda: folder.check_process(state_dir),
        "secrets": lambda: folder.check_secrets(state_dir),
        "certificates": lambda: certificates.check_certificates(state_dir, clock.now()),
        "proxy": network.check_proxy,
        "network": reach(),
        "records": lambda: records.check_records(state_dir, clock, deep=deep),
        "model": lambda: records.check_model(state_dir),
    }
