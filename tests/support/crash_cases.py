"""What the crash tests run in processes of their own."""

from __future__ import annotations

from pathlib import Path

from coordinator.db import Database
from coordinator.enrolment.founding import found
from coordinator.enrolment.redeeming import Enrolment
from participant.node.join import join
from participant.node.renewal import renew
from participant.node.vault import Vault
from shared.trust.invitation import read_invitation
from tests.support.alliance import in_process
from tests.support.renewal import directly, renewals_of

RUN_ID = b"r" * 16


def found_here(folder: str) -> None:
    """Found an alliance in ``folder/c``."""
    found(Path(folder) / "c", name="Crash", host="127.0.0.1", port=7443)


def join_here(folder: str) -> None:
    """Let the holder of ``folder/token`` join as ``folder/m``."""
    root = Path(folder)
    db = Database.open(root / "c")
    service = Enrolment.open(root / "c", db)
    join(root / "m", read_invitation(root / "token"), in_process(service))


def renew_here(folder: str) -> None:
    """Renew the certificates of the member in ``folder/members/a``."""
    root = Path(folder)
    db = Database.open(root / "coordinator")
    member = root / "members" / "a"
    renew(member, directly(renewals_of(root / "coordinator", db), member))


def save_masked_here(folder: str) -> None:
    """Keep, in ``folder/secsum``, the step of a round in which a vector was masked."""
    vault = Vault(Path(folder) / "secsum")
    vault.save(RUN_ID, b"guard 2", b"session 2", b"upload 2")


def end_here(folder: str) -> None:
    """Wipe, in ``folder/secsum``, what a run that is over has left."""
    Vault(Path(folder) / "secsum").end(RUN_ID)
