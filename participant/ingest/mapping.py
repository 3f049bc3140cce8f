"""Column mappings: a member's export in its own words, told in TOML.

The format is described in docs/reference/column-mapping.md.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.domain.schemas import REQUIRED, SCHEMA_VERSION, SCHEMAS
from shared.domain.vocabulary import Kind
from shared.errors import ConfigError

DEFAULT_DATES = ("rfc3339", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")
"""Tried in this order when a mapping says nothing; all without doubt about day and month."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileFormat(_Strict):
    """How a text file is written.

    Attributes:
        encoding: A Python codec name.
        separator: One character between the fields of a CSV line.
    """

    encoding: str = "utf-8"
    separator: str = Field(default=",", min_length=1, max_length=1)


class Writing(_Strict):
    """How values are written; unset parts of a column fall back to ``[defaults]``.

    Attributes:
        nulls: Texts that mean "not known".
        dates: strptime patterns in the order to try, or ``rfc3339``, ``unix``, ``unix_ms``.
        timezone: IANA name of the zone of times that carry none.
        decimal: Decimal sign.
        thousands: Sign between groups of digits, if any.
        strip: Characters to take off both ends of a number, such as currency signs.
    """

    nulls: tuple[str, ...] | None = None
    dates: tuple[str, ...] | None = None
    timezone: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    strip: str | None = None


class ColumnRule(Writing):
    """Where a canonical column comes from.

    Attributes:
        source: Column of the file (``from`` in TOML); runs of spaces count as one.
        constant: The same value for every row instead.
        values: Words of the file -> words of ours; any other word rejects the row.
        extract: ``host`` takes the host name out of a URL.
        optional: A file without the column is fine; the value is then unknown.
    """

    source: str | None = Field(default=None, alias="from")
    constant: str | int | float | None = None
    values: dict[str, str | int] | None = None
    extract: Literal["host"] | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.constant is None):
            raise ValueError("give either 'from' or 'constant'")
        return self


class SignalRule(Writing):
    """Where a further signal comes from; ``from`` defaults to the signal's name."""

    source: str | None = Field(default=None, alias="from")
    type: Literal["number", "text"]
    values: dict[str, str | int] | None = None
    optional: bool = False


class Mapping(_Strict):
    """One column mapping.

    Attributes:
        kind: Which records it makes.
        description: For people.
        file: How a text file is written.
        defaults: How values are written unless a column says otherwise.
        columns: Canonical column -> rule.
        signals: Signal name -> rule.
        drop: Columns of the file that are left out on purpose -> the reason.
    """

    kind: Kind
    description: str = ""
    file: FileFormat = FileFormat()
    defaults: Writing = Writing()
    columns: dict[str, ColumnRule]
    signals: dict[str, SignalRule] = {}
    drop: dict[str, str] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        known = SCHEMAS[self.kind]
        for name in self.columns:
            if name not in known:
                raise ValueError(f"{name!r} is not a column of {self.kind}")
        for name in REQUIRED[self.kind]:
            if name not in self.columns:
                raise ValueError(f"column {name!r} is required")
        if self.signals and ("signals" in self.columns or "signals" not in known):
            raise ValueError("signals are mapped one by one or as one column of listings or shops")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 in hex of what the mapping means: the same file may be read in another way."""
        meaning = f"{SCHEMA_VERSION}\n{self.model_dump_json(exclude={'description'})}"
        return hashlib.sha256(meaning.encode()).hexdigest()


def identity_mapping(kind: Kind) -> Mapping:
    """Return the mapping of our own schema: every column by its own name, most optional."""
    required = REQUIRED[kind]
    columns = {
        name: ColumnRule(
            source=name,
            optional=name not in required,
            values=_LABEL_WORDS if name == "label" else None,
        )
        for name in SCHEMAS[kind]
    }
    return Mapping(kind=kind, description="our own schema", columns=columns)


_LABEL_WORDS: dict[str, str | int] = {"0": 0, "1": 1, "legitimate": 0, "fraudulent": 1}


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with the product."""
    folder = resources.files("participant.ingest.mappings")
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))


def load_mapping(name: str | Path | None, kind: Kind) -> Mapping:
    """Read a mapping.

    Args:
        name: A TOML file, the name of a shipped mapping, or None for our own schema.
        kind: The records wanted.

    Raises:
        ConfigError: there is no such mapping, it is not valid, or it makes other records.
    """
    if name is None:
        return identity_mapping(kind)
    mapping = parse_mapping(_text(name), str(name))
    if mapping.kind != kind:
        raise ConfigError(
            f"mapping {name} makes {mapping.kind}, not {kind}", hint=f"use --kind {mapping.kind}"
        )
    return mapping


def parse_mapping(text: str, name: str) -> Mapping:
    """Parse the text of a mapping called ``name``.

    Raises:
        ConfigError: it is not TOML, has an unknown key, or lacks a required column.
    """
    try:
        return Mapping.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"mapping {name} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise ConfigError(
            f"mapping {name}: {where + ': ' if where else ''}{what}",
            hint="see docs/reference/column-mapping.md",
        ) from error


def shipped_mapping_text(name: str) -> str:
    """Return the TOML text of a mapping that comes with the product."""
    folder = resources.files("participant.ingest.mappings")
    return (folder / f"{name}.toml").read_text(encoding="utf-8")


def _text(name: str | Path) -> str:
    if str(name) in shipped_mappings():
        return shipped_mapping_text(str(name))
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no mapping {name}",
            hint=f"give a TOML file or one of: {', '.join(shipped_mappings())}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mapping {name} cannot be read", detail=str(error)) from error
