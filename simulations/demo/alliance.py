"""An alliance of real processes on loopback, brought up through the two commands."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import Exit, NetworkError, TimedOut
from shared.files import write_atomic
from simulations.demo.processes import Background, Processes
from simulations.demo.stage import Stage

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000, 2)
"""Below the range from which Linux takes the ports of outgoing connections."""

READY_S = 180.0
"""Some seconds on an idle machine. A process that has ended is noticed at once."""

PINS = 3
"""Peers each member knows in person. One more than `min_known_peers` asks for: a round that loses a
member must still hold enough known ones, or those who know too few refuse to open its sum."""


@dataclass(frozen=True)
class Export:
    """A file a member brings: of which kind, and the mapping that reads it."""

    path: Path
    kind: str
    mapping: str | None = None


@dataclass
class Member:
    """One member's node.

    Attributes:
        name: its member id.
        folder: its state folder.
        exports: its private files.
        fingerprint: of its identity key, as `peers me` prints it.
        node: the process of `up`, once started.
        imported: kind -> records kept, as `data import` reported.
    """

    name: str
    folder: Path
    exports: Sequence[Export]
    index: int = 0
    fingerprint: str = ""
    node: Background | None = None
    imported: dict[str, int] = field(default_factory=dict)


class Alliance:
    """A coordinator and its members.

    Args:
        processes: starts and stops everything.
        stage: shows progress.
        folder: an empty folder for all state.
        name: what people call the alliance.
        members: who is invited; their folders need not exist.
        policy: the policy file that every member writes.
    """

    def __init__(
        self,
        processes: Processes,
        stage: Stage,
        folder: Path,
        *,
        name: str,
        members: list[Member],
        policy: str,
    ) -> None:
        self.processes, self.stage, self.members = processes, stage, members
        self.coordinator_dir = folder / "coordinator"
        self._folder, self._name, self._policy = folder, name, policy
        self.server: Background | None = None

    def assemble(self) -> None:
        """Found the alliance, let everybody join, meet, bring data, and come up."""
        self.stage.each("found the alliance", [None], lambda _: self._found())
        self.stage.each("invite and join", self.members, self._join)
        self.stage.each("peers, policy, data, node", self.members, self._prepare)
        self._wait_connected()

    def _found(self) -> None:
        here = ("--dir", self.coordinator_dir)
        self.processes.run(
            "coordinator", "init", *here, "--name", self._name, "--host", HOST,
            "--port", str(_free_ports()),
        )  # fmt: skip
        self.server = self.processes.start("serve", "coordinator", "serve", *here)
        until(lambda: self._said(self.server, "serving"), "the coordinator to serve")

    def _join(self, member: Member) -> None:
        token = self._folder / f"{member.name}.token"
        invitation = self.processes.run(
            "coordinator", "member", "invite", member.name,
            "--dir", self.coordinator_dir, "--token-out", token,
        )  # fmt: skip
        joined = self.processes.run(
            "participant", "join", "--dir", member.folder, "--token-file", token,
            "--ca-fingerprint", invitation["ca_fingerprint"],
        )  # fmt: skip
        member.index = joined["index"]
        me = self.processes.run("participant", "peers", "me", "--dir", member.folder)
        member.fingerprint = me["fingerprint"]

    def _prepare(self, member: Member) -> None:
        here = ("--dir", member.folder)
        self.processes.run("participant", "peers", "accept", *here)
        at = self.members.index(member)
        for peer in (self.members * 2)[at + 1 : at + 1 + PINS]:
            self.processes.run("participant", "peers", "pin", peer.name, peer.fingerprint, *here)
        write_atomic(member.folder / "policy.toml", self._policy.encode(), mode=0o600)
        for export in member.exports:
            mapping = ("--mapping", export.mapping) if export.mapping else ()
            report = self.processes.run(
                "participant", "data", "import", export.path, "--kind", export.kind,
                *mapping, *here, allowed=(Exit.OK, Exit.PARTIAL),
            )  # fmt: skip
            member.imported[export.kind] = report["kept"]
        self.bring_up(member)

    def bring_up(self, member: Member) -> None:
        """Start a member's node."""
        member.node = self.processes.start(
            f"up-{member.name}", "participant", "up", "--dir", member.folder
        )

    def _wait_connected(self) -> None:
        for member in self.members:
            until(lambda m=member: self._said(m.node, "connected as"), f"{member.name} to connect")

    @staticmethod
    def _said(process: Background | None, text: str) -> bool:
        if process is not None and not process.running:
            raise process.failure()
        return process is not None and process.said(text)

    def stop(self) -> None:
        """Stop every node, then the coordinator."""
        for process in (*(member.node for member in self.members), self.server):
            if process is not None:
                process.stop()

    def check_alive(self, away: Member | None = None) -> None:
        """Raise the failure of a process that should be running; ``away`` need not be."""
        nodes = [member.node for member in self.members if member is not away]
        for process in (self.server, *nodes):
            if process is not None and not process.running:
                raise process.failure()


def until(done: Callable[[], bool], what: str, patience: float = READY_S) -> None:
    """Wait until ``done`` says so; raises :class:`TimedOut`."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            raise TimedOut(f"waited {patience:.0f} s for {what}")
        time.sleep(0.05)


def _free_ports() -> int:
    """Return a port that is free on loopback together with the next one."""
    for _ in range(200):
        port = secrets.choice(PORTS)
        if _free(port) and _free(port + 1):
            return port
    raise NetworkError("no two neighbouring ports are free on 127.0.0.1")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
