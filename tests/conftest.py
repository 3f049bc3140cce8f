"""For every test: no network beyond this machine, no inherited logging, no clock that matters.

`make test` runs two workers (pytest-xdist), each with whole files. The slow files go first, so that
no worker is left alone with one at the end.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

import shared.fleet.environment  # noqa: F401 - before any test file imports Flower

_connect = socket.socket.connect

# Read by numpy, torch and polars when they are imported: by workers and by processes that tests
# start. Workers that each use all cores wait for one another at every step.
os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", POLARS_MAX_THREADS="2"
)

# Based on the profile in force, which is hypothesis's own "ci" on a continuous-integration machine.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)  # after pytest-randomly has shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = address[0]
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catch Python code of this process that reaches out by mistake; no more than that.

    gRPC's C core and polars open sockets of their own, and child processes load no fixture: neither
    passes here. That tests give gRPC and child processes nothing but loopback addresses is a rule
    for whoever writes them.
    """

    def connect(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise OSError(f"a test tried to reach {address[0]}")
        _connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what `serve` and `up` do to the process's logging when a test calls them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for added in [handler for handler in root.handlers if handler not in handlers]:
        added.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
