"""No test reaches beyond this machine, and none inherits another's logging."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

_connect = socket.socket.connect


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
