"""Workers of one test run never get each other's ports."""

from __future__ import annotations

import os
import socket
from itertools import combinations

from tests.support.ports import PORTS, SHARES, free_ports, share_of

WORKERS = ["", *(f"gw{number}" for number in range(SHARES - 1))]


def test_every_worker_has_ports_of_its_own() -> None:
    shares = [share_of(worker) for worker in WORKERS]
    assert all(len(share) >= 500 for share in shares)
    assert all(set(share) <= set(PORTS) for share in shares)
    assert not any(set(one) & set(other) for one, other in combinations(shares, 2))


def test_a_port_in_use_is_passed_over() -> None:
    ours = share_of(os.environ.get("PYTEST_XDIST_WORKER", ""))
    first, second = free_ports()
    assert second == first + 1
    assert first in ours
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", second))
        once_round = [free_ports()[0] for _ in range(len(ours) // 2)]
    assert first not in once_round
    assert len(set(once_round[:20])) == 20  # none again before others had their turn
