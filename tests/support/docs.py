"""The project's documents as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CONTINUED = re.compile(r"\\\n\s*")
_INLINE = re.compile(r"`[^`\n]+`")


def documents() -> list[Path]:
    """Return every Markdown document, README and CHANGELOG included."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(path: Path) -> str:
    """Return a document's path as tests are named."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[str]:
    """Return the contents of fenced code blocks, without the fences."""
    return ["\n".join(found.split("\n")[1:-1]) for found in _FENCE.findall(text)]


def prose(text: str) -> str:
    """Return the text without code blocks and inline code."""
    return _INLINE.sub("", _FENCE.sub("", text))


def code(text: str) -> list[str]:
    """Return every line of a code block and every piece of inline code."""
    inline = [found.strip("`") for found in _INLINE.findall(_FENCE.sub("", text))]
    lines = [_CONTINUED.sub(" ", block).split("\n") for block in blocks(text)]
    return [line.strip() for block in lines for line in block] + inline


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown viewer makes of the headings."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
