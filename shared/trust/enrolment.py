"""Asking to be enrolled and the answer, apart from how they travel."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EnrolmentRequest:
    """A newcomer's token and its two signing requests (PEM); keys never leave the member."""

    token: bytes = field(repr=False)
    member_id: str
    tls_request: bytes
    identity_request: bytes


@dataclass(frozen=True)
class EnrolmentGrant:
    """What makes a newcomer a member.

    Attributes:
        index: the member's number in the alliance, from 1.
        member_id: its name.
        tls_certificate: PEM, for connections.
        identity_certificate: PEM, for its signing key.
        ca_certificate: PEM, the alliance's authority.
        coordinator_public_key: raw Ed25519 key of the coordinator, 32 bytes.
        alliance_name: what people call the alliance.
        port: the mutual-TLS port.
    """

    index: int
    member_id: str
    tls_certificate: bytes
    identity_certificate: bytes
    ca_certificate: bytes
    coordinator_public_key: bytes
    alliance_name: str
    port: int
