"""Text on its way to a person's terminal, where an escape sequence would be obeyed.

Names, purposes and reasons come from other people. A terminal that is sent control characters
moves its cursor, overwrites lines or hides them, so none leaves this process; and what looks like
rich's markup is text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.text import Text

_NOT_TEXT = "\N{REPLACEMENT CHARACTER}"

_WIDE = 10_000
"""Columns where nobody looks at a window: a table in a pipe or file must not be cut."""

_STEP = re.compile(r"[^\n\t\x20-\x7e]")
"""Candidates for a closer look: all but plain ASCII."""


def plain(text: str) -> str:
    """Return ``text`` with every control and format character but line feed and tab replaced."""
    return _STEP.sub(lambda found: found[0] if found[0].isprintable() else _NOT_TEXT, text)


def to_json(value: dict[str, Any]) -> str:
    """Return one line of JSON in which what is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return _STEP.sub(lambda found: found[0] if found[0].isprintable() else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return json.dumps(character, ensure_ascii=True)[1:-1]


class PlainConsole(Console):
    """A console that prints texts to the letter: no markup, no pictures, no control characters.

    Args:
        stderr: write to standard error instead of standard output.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # Without emoji=False, rich prints the ":AB:" in a fingerprint as a picture.
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height of the window; very wide where there is none."""
        found = super().size
        return found if self.is_terminal else ConsoleDimensions(_WIDE, found.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text as it is; rich asks here for whatever it prints, cells of tables too."""
        kept = {name: how[name] for name in ("style", "justify", "overflow") if how.get(name)}
        return Text(plain(text), **kept)
