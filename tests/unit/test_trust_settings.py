"""Configuration files: strict, and overridden by the environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import CoordinatorConfig, write_config
from shared.errors import ConfigError, NotFound
from shared.settings import load_settings, toml_text


def test_the_written_file_is_read_back_and_kept(tmp_path: Path) -> None:
    write_config(tmp_path, bind="127.0.0.1", passphrase_file=None)
    first = (tmp_path / "coordinator.toml").read_bytes()
    assert CoordinatorConfig.load(tmp_path).server.bind == "127.0.0.1"
    write_config(tmp_path, bind="192.0.2.1", passphrase_file=None)
    assert (tmp_path / "coordinator.toml").read_bytes() == first


def test_the_environment_overrides_known_keys_only(tmp_path: Path) -> None:
    write_config(tmp_path, bind="127.0.0.1", passphrase_file=None)
    environ = {
        "TOUCHSTONE_SERVER__BIND": "::1",
        "TOUCHSTONE_SERVER__OTHER": "x",
        "SERVER__BIND": "y",
    }
    config = load_settings(tmp_path / "coordinator.toml", CoordinatorConfig, environ)
    assert config.server.bind == "::1"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[server]\nbnd = 'x'", "server.bnd"),
        ("[servr]\n", "servr"),
        ("[server]\nbind = 1", "server.bind"),
        ("[server", "not valid TOML"),
        ("\xff", "not valid TOML"),
        ("#" * 300_000, "too large"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=names):
        CoordinatorConfig.load(tmp_path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_settings(tmp_path / "none.toml", CoordinatorConfig)


@given(st.text())
def test_any_text_survives_toml(text: str) -> None:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        return
    assert tomllib.loads(f"a = {toml_text(text)}") == {"a": text}
