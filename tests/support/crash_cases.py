"""What the crash tests run in processes of their own."""

from __future__ import annotations

from pathlib import Path

from coordinator.db import Database
from coordinator.enrolment.founding import found
from coordinator.enrolment.redeeming import Enrolment
from participant.node.join import join
from shared.trust.invitation import read_invitation
from tests.support.alliance import in_process


def found_here(folder: str) -> None:
    """Found an alliance in ``folder/c``."""
    found(Path(folder) / "c", name="Crash", host="127.0.0.1", port=7443)


def join_here(folder: str) -> None:
    """Let the holder of ``folder/token`` join as ``folder/m``."""
    root = Path(folder)
    db = Database.open(root / "c")
    service = Enrolment.open(root / "c", db)
    join(root / "m", read_invitation(root / "token"), in_process(service))
