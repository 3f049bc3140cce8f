"""The audit log's vocabulary is closed: exactly what the coordinator's source writes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from coordinator.audit.vocabulary import KINDS, check_kind
from shared.errors import BadInput

ROOT = Path(__file__).resolve().parents[2] / "coordinator"
WRITERS = {"append", "event", "audit"}
KIND = re.compile(r"[a-z]+\.[a-z_]+")


def _written() -> set[str]:
    found: set[str] = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0]
            if name in WRITERS and isinstance(first, ast.Constant):
                kind = str(first.value)
                if KIND.fullmatch(kind):
                    found.add(kind)
    return found


def test_what_is_written_is_what_is_listed() -> None:
    assert _written() == set(KINDS)


def test_unknown_kinds_are_refused() -> None:
    assert check_kind("run.state") == "run.state"
    with pytest.raises(BadInput) as caught:
        check_kind("run.statte")
    assert "run.state" in caught.value.hint
