"""Where a coordinator keeps things, and ``coordinator.toml``: what its operator may set."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from shared.files import write_atomic
from shared.settings import load_settings, toml_text
from shared.trust.keys import read_passphrase

FILE_NAME = "coordinator.toml"

_TEXT = """\
# Settings of this coordinator. A variable TOUCHSTONE_SECTION__KEY in the environment overrides
# any of them, for example TOUCHSTONE_DATABASE__URL.

[server]
# Address to listen on: 0.0.0.0 is every IPv4 interface, [::] every interface.
bind = {bind}

[database]
# Empty: the SQLite file touchstone.db beside this one. Otherwise a URL of the form
# postgresql+psycopg://user@host/name, which needs pip install 'psycopg[binary]'.
url = ""

[keys]
# File whose first line decrypts the private keys in keys/; empty when they are not encrypted.
passphrase_file = {passphrase_file}
"""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSection(_Section):
    """``bind``: the address to listen on, without a port."""

    bind: str = "0.0.0.0"  # noqa: S104 - a coordinator is there to be reached


class DatabaseSection(_Section):
    """``url``: PostgreSQL, or empty for the SQLite file in the folder."""

    url: str = ""


class KeysSection(_Section):
    """``passphrase_file``: decrypts the private keys, or empty."""

    passphrase_file: str = ""


class CoordinatorConfig(_Section):
    """The whole file."""

    server: ServerSection = ServerSection()
    database: DatabaseSection = DatabaseSection()
    keys: KeysSection = KeysSection()

    @classmethod
    def load(cls, folder: Path) -> CoordinatorConfig:
        """Read the file of a coordinator's folder; a folder without one has the defaults.

        Raises:
            ConfigError: it is not TOML, has an unknown key or a wrong value.
        """
        path = folder / FILE_NAME
        return load_settings(path, cls) if path.exists() else cls()

    def passphrase(self) -> bytes | None:
        """Return what decrypts the keys, or nothing; raises :class:`KeyUnreadable`."""
        named = self.keys.passphrase_file
        return read_passphrase(Path(named)) if named else None


def write_config(folder: Path, *, bind: str, passphrase_file: Path | None) -> None:
    """Write a commented ``coordinator.toml``, mode 0600, unless there is one."""
    path = folder / FILE_NAME
    if path.exists():
        return
    named = str(passphrase_file.resolve()) if passphrase_file else ""
    text = _TEXT.format(bind=toml_text(bind), passphrase_file=toml_text(named))
    write_atomic(path, text.encode(), mode=0o600)
