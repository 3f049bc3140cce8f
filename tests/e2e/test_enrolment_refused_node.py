"""A node that the coordinator keeps out is told so and ends; it does not try for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from participant.node import daemon
from shared.fleet.wire import Timing
from shared.trust.errors import CertificateRefused, CoordinatorNotTrusted
from tests.support.alliance import found_alliance, serving


def _never() -> None:
    raise AssertionError("no instruction can arrive")


def test_a_node_with_a_foreign_certificate_ends(tmp_path: Path) -> None:
    ours = found_alliance(tmp_path / "ours", ["a"])
    theirs = found_alliance(tmp_path / "theirs", ["a"])
    node = ours.dir_of("a")
    for name in ("tls.pem", "tls.key.pem"):
        shutil.copy(theirs.dir_of("a") / "keys" / name, node / "keys" / name)
    with serving(ours), pytest.raises(CertificateRefused, match="does not accept this node's"):
        daemon.up(node, lambda: _never, timing=Timing())  # type: ignore[arg-type,return-value]


def test_a_node_that_meets_a_foreign_coordinator_ends(tmp_path: Path) -> None:
    ours = found_alliance(tmp_path / "ours", ["a"])
    theirs = found_alliance(tmp_path / "theirs", ["a"])
    node = ours.dir_of("a")
    settings = (node / "node.toml").read_text()
    moved = settings.replace(f"port = {ours.port}", f"port = {theirs.port}")
    (node / "node.toml").write_text(moved)
    with serving(theirs), pytest.raises(CoordinatorNotTrusted):
        daemon.up(node, lambda: _never, timing=Timing())  # type: ignore[arg-type,return-value]
