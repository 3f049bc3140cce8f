"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest
from pydantic import BaseModel

from coordinator.config import CoordinatorConfig
from participant.node.config import NodeConfig
from participant.node.policy import Policy
from participant.node.reasons import REASONS, told_to_coordinator
from tests.support.docs import ROOT

PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text("utf-8")


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(generator) -> None:
    assert generator.stale() == [], "run python docs/generate.py"


def test_a_changed_page_is_found(generator, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(generator, "PAGES", {"limits.md": generator.limits})
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    assert generator.stale() == ["limits.md"]
    (tmp_path / "limits.md").write_text(generator.limits(), "utf-8")
    assert generator.stale() == []


def _rows(section: str) -> list[list[str]]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.split("\n") if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize(
    ("section", "model"), [("coordinator.toml", CoordinatorConfig), ("node.toml", NodeConfig)]
)
def test_every_key_of_a_sectioned_file_is_described(section: str, model: type[BaseModel]) -> None:
    keys = [
        (f"`{name}`", f"`{key}`")
        for name, field in model.model_fields.items()
        for key in field.annotation.model_fields
    ]
    assert [(row[0], row[1]) for row in _rows(section)] == keys


def test_every_policy_rule_is_described_with_its_default() -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in _rows("policy.toml")}
    assert list(rows) == list(Policy.model_fields)
    for name, field in Policy.model_fields.items():
        if field.default is not None:
            assert json.loads(rows[name]) == json.loads(json.dumps(field.default)), name


def test_environment_variables_of_the_commands_are_described() -> None:
    sources = [*(ROOT / "coordinator").rglob("*.py"), *(ROOT / "participant").rglob("*.py")]
    sources += (ROOT / "shared").rglob("*.py")
    found = {
        name
        for path in sources
        for name in re.findall(r'"(TOUCHSTONE_[A-Z]+|FLWR_[A-Z_]+|GRPC_[A-Z_]+)"', path.read_text())
    }
    assert found
    assert {name for name in found if f"`{name}" not in PAGE} == set()


def test_the_threat_model_judges_every_code_that_a_refusal_tells() -> None:
    page = (ROOT / "docs" / "explanation" / "threat-model.md").read_text("utf-8")
    section = page.split("## What a refusal tells")[1].split("\n## ")[0]
    told = [line.split("|")[1] for line in section.split("\n") if line.startswith("| `")]
    assert {code for cell in told for code in re.findall(r"`(\w+)`", cell)} == {
        told_to_coordinator(code) for code in REASONS
    }
