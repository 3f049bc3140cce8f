"""``node.toml``: which alliance this folder belongs to. Written last when joining."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import StateError
from shared.files import write_atomic
from shared.settings import load_settings, toml_text
from shared.trust.names import authority_of

FILE_NAME = "node.toml"

_TEXT = """\
# Written by `touchstone-participant join`. A variable TOUCHSTONE_SECTION__KEY in the environment
# overrides a setting, for example TOUCHSTONE_COORDINATOR__HOST.

[alliance]
name = {name}
id = {id}
ca_fingerprint = {ca_fingerprint}
# Ed25519 key that signs everything the coordinator sends, in hex.
coordinator_public_key = {coordinator_public_key}

[coordinator]
host = {host}
port = {port}
enrolment_port = {enrolment_port}

[member]
member_id = {member_id}
index = {index}

[keys]
# File whose first line decrypts the private keys in keys/; empty when they are not encrypted.
passphrase_file = {passphrase_file}
"""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AllianceSection(_Section):
    """The alliance: 16-byte id and keys in hex, fingerprint with colons."""

    name: str
    id: str = Field(pattern="^[0-9a-f]{32}$")
    ca_fingerprint: str = Field(pattern="^[0-9A-F]{2}(:[0-9A-F]{2}){31}$")
    coordinator_public_key: str = Field(pattern="^[0-9a-f]{64}$")


class CoordinatorSection(_Section):
    """Where the coordinator is: the mutual-TLS port and the enrolment port."""

    host: str
    port: int = Field(ge=1, le=65535)
    enrolment_port: int = Field(ge=1, le=65535)

    @property
    def authority(self) -> str:
        """``host:port`` of the mutual-TLS port, as gRPC wants it."""
        return authority_of(self.host, self.port)


class MemberSection(_Section):
    """Who this node is."""

    member_id: str
    index: int = Field(ge=1)


class KeysSection(_Section):
    """``passphrase_file``: decrypts the private keys, or empty."""

    passphrase_file: str = ""


class NodeConfig(_Section):
    """The whole file."""

    alliance: AllianceSection
    coordinator: CoordinatorSection
    member: MemberSection
    keys: KeysSection = KeysSection()

    @classmethod
    def load(cls, state_dir: Path) -> NodeConfig:
        """Read the file of a member's folder.

        Raises:
            StateError: this folder has not joined an alliance.
            ConfigError: the file is not TOML, has an unknown key or a wrong value.
        """
        if not (state_dir / FILE_NAME).exists():
            raise StateError(
                f"{state_dir} has not joined an alliance",
                hint="run touchstone-participant join with your token file",
            )
        return load_settings(state_dir / FILE_NAME, cls)

    def write(self, state_dir: Path) -> None:
        """Write the file with its comments, mode 0600; raises :class:`StorageError`."""
        sections = (self.alliance, self.coordinator, self.member, self.keys)
        values = {key: value for section in sections for key, value in section.model_dump().items()}
        texts = {key: toml_text(v) if isinstance(v, str) else v for key, v in values.items()}
        write_atomic(state_dir / FILE_NAME, _TEXT.format(**texts).encode(), mode=0o600)
