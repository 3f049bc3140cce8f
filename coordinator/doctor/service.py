"""The examination of a coordinator: every check, whatever the others find."""

from __future__ import annotations

from pathlib import Path

from coordinator.doctor import checks
from coordinator.serving import LOCK_FILE
from shared.clock import Clock, SystemClock
from shared.doctor import installation, places
from shared.doctor.report import Examine, Report, examined


def examine(state_dir: Path, *, offline: bool = False, clock: Clock | None = None) -> Report:
    """Look a coordinator over; nothing that is wrong keeps the later checks from being made.

    Args:
        state_dir: the coordinator's folder; it need not be whole.
        offline: leave the network alone.
        clock: for certificates.
    """
    now = (clock or SystemClock()).now()
    start = "start it with touchstone-coordinator serve"
    checked: dict[str, Examine] = {
        "python": installation.check_python,
        "packages": lambda: installation.check_packages("coordinator"),
        "flower": installation.check_flower,
        "config": lambda: checks.check_config(state_dir),
        "modes": lambda: places.check_private(state_dir, checks.FOLDERS, checks.FILES),
        "disk": lambda: places.check_disk(state_dir),
        "process": lambda: places.check_process(state_dir / LOCK_FILE, "the coordinator", start),
        "certificates": lambda: checks.check_certificates(state_dir, now),
        "database": lambda: checks.check_database(state_dir, offline=offline),
    }
    return examined(places.only_what_is_there(state_dir, checked))
