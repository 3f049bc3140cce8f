"""Ports for tests that listen: below those that Linux hands out, and for each worker its own.

A port that the system picked and that was let go again may be any connection's a moment later.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator

PORTS = range(10_000, 20_000)
"""Below the demonstration's own (20,000) and the first of outgoing connections (32,768)."""

SHARES = 16
"""Test processes that have ports to themselves: one that runs alone, and workers gw0, gw1, …"""


def share_of(worker: str) -> range:
    """Return the ports of a worker of pytest-xdist (``gw1``), or of the one process (empty)."""
    number = 1 + int(worker.removeprefix("gw")) % (SHARES - 1) if worker else 0
    size = len(PORTS) // SHARES
    return PORTS[number * size : (number + 1) * size]


def _pairs() -> Iterator[int]:
    """Yield each port of ours that has a neighbour, over and over.

    Each turns up as late as can be after its last use. The first is drawn, not counted from
    nought: another run of the tests on this machine has the same ports.
    """
    ours = share_of(os.environ.get("PYTEST_XDIST_WORKER", ""))[:-1:2]
    at = secrets.randbelow(len(ours))
    while True:
        yield ours[at % len(ours)]
        at += 1


_next = _pairs()


def free_ports() -> tuple[int, int]:
    """Return two neighbouring TCP ports that nobody listens on."""
    for _ in range(len(PORTS)):
        port = next(_next)
        if _is_free(port) and _is_free(port + 1):
            return port, port + 1
    raise RuntimeError("no two neighbouring ports are free")


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    return free_ports()[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - finds what holds it on any address
        except OSError:
            return False
    return True
