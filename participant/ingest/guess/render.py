"""A proposal as the text of a mapping: what is sure as lines, what is not as comments."""

from __future__ import annotations

import json
from collections.abc import Iterator

from participant.ingest.guess.assign import Assignment, Choice
from participant.ingest.guess.looks import Look
from participant.ingest.mapping import FileFormat, Writing
from shared.domain.schemas import REQUIRED
from shared.domain.vocabulary import Kind

_HEAD = """\
# Proposed from column names and the look of the values. Read it before you use it:
# a commented line is a choice that a person has to make."""

_CONSTANTS = {
    "listings": {"marketplace": "name of the marketplace", "currency": "EUR", "language": "en"},
    "verdicts": {"source": "analyst", "decided_at": "2026-01-31"},
    "complaints": {"source": "buyer", "claim": "fake"},
    "shops": {},
}
"""Values that an export often leaves out because they are the same for all its rows."""


def render(
    kind: Kind, file: FileFormat, found: Assignment, constants: dict[str, str]
) -> tuple[str, tuple[str, ...]]:
    """Return the mapping's text, and our required columns that it does not fill."""
    taken = {choice.ours for choice in found.columns if not choice.doubt} | constants.keys()
    missing = tuple(name for name in REQUIRED[kind] if name not in taken)
    blocks = [
        [_HEAD, f"kind = {_text(kind)}"],
        list(_file(file)),
        list(_columns(kind, found, constants, missing)),
        list(_signals(found)),
        list(_drop(found)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n", missing


def _file(file: FileFormat) -> Iterator[str]:
    usual = FileFormat()
    if file != usual:
        yield "[file]"
    for name in ("encoding", "separator"):
        if getattr(file, name) != getattr(usual, name):
            yield f"{name} = {_text(getattr(file, name))}"


def _columns(
    kind: Kind, found: Assignment, constants: dict[str, str], missing: tuple[str, ...]
) -> Iterator[str]:
    yield "[columns]"
    for choice in found.columns:
        if choice.doubt:
            yield f"# {choice.ours} = {_choice(choice)}  # {choice.doubt}"
        else:
            yield f"{choice.ours} = {_choice(choice)}"
    mentioned = {choice.ours for choice in found.columns}
    for name, value in constants.items():
        yield f"{name} = {{ constant = {_text(value)} }}"
    for name, value in _CONSTANTS[kind].items():
        if name not in mentioned | constants.keys():
            yield f"# {name} = {{ constant = {_text(value)} }}  # not in the file"
    for name in missing:
        if name not in mentioned | _CONSTANTS[kind].keys():
            yield f'# {name} = {{ from = "" }}  # required, and no column looks like it'


def _choice(choice: Choice) -> str:
    parts = [f"from = {_text(choice.look.name)}"]
    if choice.extract:
        parts.append(f"extract = {_text(choice.extract)}")
    if choice.values:
        pairs = ", ".join(f"{_text(word)} = {_value(our)}" for word, our in choice.values.items())
        parts.append(f"values = {{ {pairs} }}")
    # Words are compared as they are written, numbers' signs do not matter to them.
    kept = Writing(nulls=choice.look.writing.nulls) if choice.values else choice.look.writing
    return f"{{ {', '.join((*parts, *_writing(kept)))} }}"


def _signals(found: Assignment) -> Iterator[str]:
    if found.signals or found.unsure_signals:
        yield "[signals]"
    for name, look in found.signals.items():
        yield f"{_key(name)} = {_signal(name, look)}"
    for name, look in found.unsure_signals.items():
        yield f"# {_key(name)} = {_signal(name, look)}  # {look.doubt}"


def _signal(name: str, look: Look) -> str:
    origin = [] if name == look.name else [f"from = {_text(look.name)}"]
    number = look.shape == "number"
    writing = look.writing if number else Writing(nulls=look.writing.nulls)
    kind = f"type = {_text('number' if number else 'text')}"
    return f"{{ {', '.join((*origin, kind, *_writing(writing)))} }}"


def _drop(found: Assignment) -> Iterator[str]:
    if found.drop:
        yield "[drop]"
    for name, reason in found.drop.items():
        yield f"{_text(name)} = {_text(reason)}"


def _writing(writing: Writing) -> Iterator[str]:
    for name, value in writing.model_dump(exclude_none=True).items():
        listed = isinstance(value, list | tuple)
        yield f"{name} = {'[' + ', '.join(map(_text, value)) + ']' if listed else _text(value)}"


def _value(our: str) -> str:
    return our if our.isdigit() else _text(our)


def _key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else _text(name)


def _text(value: str) -> str:
    """Return a TOML basic string: JSON's escapes, and the one control that JSON lets through."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
