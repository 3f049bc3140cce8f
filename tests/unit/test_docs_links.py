"""Every link in the documents leads somewhere, and no document names a private place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.docs import ROOT, anchors, documents, name_of, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PRIVATE = re.compile(r"(?<![\w.])/(?:work|root)\b")
HOST = re.compile(r"https?://([\w.-]+)")
REGISTRY = re.compile(
    r"pypi|pythonhosted|index|mirror|proxy|nexus|artifactory|conda|docker|ghcr|whl|localhost|^\d"
)
ELSEWHERE = ("http://", "https://", "mailto:")
TORCH = "download.pytorch.org"

each = pytest.mark.parametrize("path", documents(), ids=name_of)


@each
def test_relative_links_resolve(path: Path) -> None:
    text = path.read_text("utf-8")
    local = [target for target in LINK.findall(prose(text)) if not target.startswith(ELSEWHERE)]
    assert [target for target in local if not _resolves(path, target)] == []


def _resolves(path: Path, target: str) -> bool:
    file, _, fragment = target.partition("#")
    there = (path.parent / file).resolve() if file else path
    if not there.is_relative_to(ROOT) or not there.exists():
        return False
    return not fragment or fragment in anchors(there.read_text("utf-8"))


@each
def test_no_private_path_and_no_registry_but_torchs(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not PRIVATE.search(text)
    assert [host for host in HOST.findall(text) if host != TORCH and REGISTRY.search(host)] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = {ROOT / "docs" / target for target in LINK.findall(index)}
    assert set((ROOT / "docs").rglob("*.md")) - listed == {ROOT / "docs" / "README.md"}


def test_the_checks_find_what_they_look_for() -> None:
    assert not _resolves(ROOT / "README.md", "docs/nowhere.md")
    assert not _resolves(ROOT / "README.md", "docs/README.md#nowhere")
    assert _resolves(ROOT / "README.md", "docs/README.md#documentation")
    assert LINK.findall("a ![b](c.svg) and [d](e.md#f)") == ["c.svg", "e.md#f"]
    assert PRIVATE.search("see /" + "work/x")
    assert not PRIVATE.search("the network/working")
    assert REGISTRY.search("pypi.example")
    assert anchors("# A b: c!\n## d-e") == {"a-b-c", "d-e"}
