"""Configuration files: strict TOML, which ``TOUCHSTONE_SECTION__KEY`` variables override."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import ConfigError, NotFound
from shared.limits import MAX_CONFIG_BYTES

ENV_PREFIX = "TOUCHSTONE_"

M = TypeVar("M", bound=BaseModel)


def load_settings(path: Path, model: type[M], environ: Mapping[str, str] | None = None) -> M:
    """Read ``path`` into ``model``, whose fields are sections, and let the environment override.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is not TOML, too large, has an unknown key or a value out of range.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path.name} in {path.parent}") from error
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path.name} is too large for a configuration file")
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error
    return validated(
        path.name, model, _overridden(values, os.environ if environ is None else environ)
    )


def validated(name: str, model: type[M], values: Mapping[str, Any]) -> M:
    """Return ``values`` as a ``model``; ``name`` is the file to blame.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of another type or range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or name
        raise ConfigError(f"{name}: {where}: {first['msg'].lower()}") from error


def _overridden(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    for variable, value in environ.items():
        section, found, key = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        known = values.get(section)
        if variable.startswith(ENV_PREFIX) and found and isinstance(known, dict) and key in known:
            known[key] = value
    return values


def toml_text(value: str) -> str:
    """Return ``value`` as a TOML basic string (toml.io/en/v1.0.0#string)."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
