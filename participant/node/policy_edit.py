"""Changes single rules in ``policy.toml`` and leaves every other character as it is.

The comments are half of a policy that somebody signs off, so the file is not written anew from
parsed values. A statement is replaced where it stands; a rule that was left out is put after the
comment that shows it, or at the end.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from participant.node.policy import Policy, checked, values_in
from shared.errors import BadInput, ConfigError

Value = str | int | float | bool | Sequence[str]


def parse_value(key: str, text: str) -> Value:
    """Read one value as a person types it: TOML, or a bare word, or words apart by commas.

    Raises:
        BadInput: the policy has no such rule, or the rule does not admit the value.
    """
    if key not in Policy.model_fields:
        raise BadInput(
            f"the policy has no rule {key[:40]!r}", hint=f"rules: {', '.join(Policy.model_fields)}"
        )
    value = _plain(text)
    if isinstance(Policy.model_fields[key].default, tuple) and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        Policy.model_validate({key: value})
    except ValidationError as error:
        raise BadInput(f"{key}: {error.errors()[0]['msg'].lower()}") from error
    return value


def _plain(text: str) -> Value:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
    return value if isinstance(value, str | int | float | bool | list) else text


def edited(text: str, values: Mapping[str, Value], left_out: Iterable[str] = ()) -> str:
    """Return the file's text with ``values`` in force and the rules ``left_out`` gone.

    Raises:
        ConfigError: the file is not TOML, the rules together are no valid policy, or the text is
            laid out in a way this function does not understand.
    """
    wanted = {**values_in(text), **values}
    lines = text.splitlines()
    for key in left_out:
        wanted.pop(key, None)
        _remove(lines, key)
    for key, value in values.items():
        _put(lines, key, value)
    new = "\n".join(lines) + "\n"
    if values_in(new) != wanted:
        raise ConfigError(
            "the policy cannot be edited in place", hint="edit it by hand, then `policy check`"
        )
    checked(wanted)
    return new


def _put(lines: list[str], key: str, value: Value) -> None:
    statement = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    place = _extent(lines, key)
    if place is not None:
        start, end = place
        lines[start:end] = [statement + _trailing_comment(lines[start:end])]
        return
    shown = re.compile(rf"#\s*{re.escape(key)}\s*=")
    after = [at for at, line in enumerate(lines) if shown.match(line)]
    if after:
        lines.insert(after[-1] + 1, statement)
    else:
        lines += ["", statement]


def _remove(lines: list[str], key: str) -> None:
    place = _extent(lines, key)
    if place is not None:
        del lines[place[0] : place[1]]


def _extent(lines: Sequence[str], key: str) -> tuple[int, int] | None:
    """Return the lines [start, end) of a rule's statement, which may span several, or None."""
    start = 0
    while start < len(lines):
        end, found = _statement(lines, start)
        if key in found:
            return start, end
        start = end
    return None


def _statement(lines: Sequence[str], start: int) -> tuple[int, dict[str, Any]]:
    """Return where the statement, comment or blank line at ``start`` ends, and what it sets."""
    for end in range(start + 1, len(lines) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue  # not complete yet
    return len(lines), {}


def _trailing_comment(statement: Sequence[str]) -> str:
    """Return the comment behind a statement of one line, with what sets it apart."""
    if len(statement) != 1:
        return ""
    line = statement[0]
    whole = tomllib.loads(line)
    for mark in re.finditer(r"\s*#", line):
        try:
            if tomllib.loads(line[: mark.start()]) == whole:
                return line[mark.start() :]
        except tomllib.TOMLDecodeError:
            continue  # a hash inside a string
    return ""
