"""The invitation a member receives: a one-time secret and all it needs to know to use it safely."""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import BadInput, TouchstoneError
from shared.files import write_atomic
from shared.limits import MAX_TOKEN_FILE_BYTES
from shared.settings import toml_text
from shared.trust.certificates import fingerprint, load_certificate, normal_fingerprint
from shared.trust.errors import FingerprintMismatch
from shared.trust.names import check_alliance_name, check_host, check_member_id, check_port

TOKEN_BYTES = 32

_TEXT = """\
# Invitation to the alliance {alliance}. It works once; keep it secret until it is used.
# Compare ca_fingerprint with what the coordinator's operator tells you by another way.
version = 1
alliance = {alliance}
member_id = {member_id}
host = {host}
port = {port}
enrolment_port = {enrolment_port}
expires_at = {expires_at}
ca_fingerprint = {ca_fingerprint}
token = {token}
ca_pem = '''
{ca_pem}'''
"""


def new_token() -> bytes:
    """Return 32 unguessable bytes."""
    return secrets.token_bytes(TOKEN_BYTES)


def token_hash(token: bytes) -> str:
    """Return what the coordinator stores of a token: SHA-256 in hex.

    A plain hash is enough for 256 random bits; a slow one would only help the flooder.
    """
    return hashlib.sha256(b"touchstone/invitation/v1" + token).hexdigest()


@dataclass(frozen=True)
class Invitation:
    """The content of an invitation file.

    Attributes:
        alliance: name of the alliance.
        member_id: the name the member will have.
        host: where the coordinator is.
        port: mutual-TLS port.
        enrolment_port: where this token is redeemed.
        expires_at: RFC 3339 text, for people; the coordinator decides.
        ca_fingerprint: of ``ca_pem``, as :func:`shared.trust.certificates.fingerprint` writes it.
        ca_pem: the authority's certificate.
        token: the secret, 32 bytes.
    """

    alliance: str
    member_id: str
    host: str
    port: int
    enrolment_port: int
    expires_at: str
    ca_fingerprint: str
    ca_pem: bytes
    token: bytes = field(repr=False)

    def check_fingerprint(self, announced: str = "") -> None:
        """Check that the certificate is the one named, in the file and by ``announced``.

        Args:
            announced: what the operator said by another way; empty if nothing.

        Raises:
            FingerprintMismatch: it is another certificate.
            CertificateRefused: the certificate or a fingerprint cannot be read.
        """
        actual = fingerprint(load_certificate(self.ca_pem))
        expected = [self.ca_fingerprint, announced] if announced else [self.ca_fingerprint]
        if any(normal_fingerprint(text) != actual for text in expected):
            raise FingerprintMismatch(
                "the alliance's certificate has another fingerprint than announced",
                hint="ask the operator for the fingerprint and for a new invitation; "
                "somebody may have exchanged the file",
            )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    alliance: str
    member_id: str
    host: str
    port: int
    enrolment_port: int
    expires_at: str
    ca_fingerprint: str
    token: str
    ca_pem: str


def encode_invitation(invitation: Invitation) -> bytes:
    """Return the invitation file's bytes."""
    return _TEXT.format(
        alliance=toml_text(invitation.alliance),
        member_id=toml_text(invitation.member_id),
        host=toml_text(invitation.host),
        port=invitation.port,
        enrolment_port=invitation.enrolment_port,
        expires_at=toml_text(invitation.expires_at),
        ca_fingerprint=toml_text(invitation.ca_fingerprint),
        token=toml_text(invitation.token.hex()),
        ca_pem=invitation.ca_pem.decode("ascii"),
    ).encode()


def write_invitation(path: Path, invitation: Invitation) -> None:
    """Write an invitation file, mode 0600; raises :class:`StorageError`."""
    write_atomic(path, encode_invitation(invitation), mode=0o600)


def read_invitation(path: Path) -> Invitation:
    """Read an invitation file strictly; the fingerprint is checked apart.

    Raises:
        BadInput: it is missing, unreadable, or not an invitation of this version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKEN_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(f"the token file cannot be read: {error.strerror}") from error
    if len(data) > MAX_TOKEN_FILE_BYTES:
        raise BadInput("the token file is too large to be an invitation")
    return decode_invitation(data)


def decode_invitation(data: bytes) -> Invitation:
    """Return the invitation in ``data``; raises :class:`BadInput`."""
    try:
        return _checked(_File.model_validate(tomllib.loads(data.decode("utf-8"))))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError, ValueError):
        # Without its cause, which would quote the secret in a traceback.
        raise BadInput(
            "the token file is not an invitation", hint="ask the operator to send it again"
        ) from None
    except TouchstoneError as error:
        raise BadInput(f"the token file is damaged: {error.message}") from error


def _checked(file: _File) -> Invitation:
    token = bytes.fromhex(file.token)
    if file.version != 1 or len(token) != TOKEN_BYTES:
        raise BadInput("it is of another version")
    values: dict[str, Any] = file.model_dump(exclude={"version", "token", "ca_pem"})
    check_alliance_name(file.alliance)
    check_member_id(file.member_id)
    check_host(file.host)
    check_port(file.port)
    check_port(file.enrolment_port - 1)
    normal_fingerprint(file.ca_fingerprint)
    load_certificate(file.ca_pem.encode())
    return Invitation(**values, ca_pem=file.ca_pem.encode(), token=token)
