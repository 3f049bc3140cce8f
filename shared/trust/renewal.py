"""Asking for new certificates under an old name, apart from how the request travels.

The connection's certificate says who calls, and a signature by the identity key says that it is
meant: whoever got hold of a connection's key alone cannot turn it into a longer-lived one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.encoding import Reader, Writer
from shared.limits import MAX_CSR_BYTES, MAX_NAME
from shared.trust.errors import RenewalRefused

DOMAIN = "touchstone/renewal/v1"


@dataclass(frozen=True)
class RenewalStatement:
    """What a member signs to renew its certificates.

    Attributes:
        alliance_id: 16 bytes.
        index: the member's number.
        member_id: its name.
        identity_key: its raw Ed25519 public key, 32 bytes.
        current: SHA-256 of the connection certificate in use (DER), 32 bytes; once that is
            replaced, the statement is void.
        tls_request: PKCS#10 in PEM over the fresh P-256 key.
    """

    alliance_id: bytes
    index: int
    member_id: str
    identity_key: bytes
    current: bytes
    tls_request: bytes

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        writer = Writer(DOMAIN).fixed(self.alliance_id, 16).u32(self.index).text(self.member_id)
        writer.fixed(self.identity_key, 32).fixed(self.current, 32).blob(self.tls_request)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> RenewalStatement:
        """Read a canonical encoding; raises :class:`MalformedMessage`."""
        reader = Reader(data, DOMAIN)
        statement = cls(
            alliance_id=reader.fixed(16),
            index=reader.u32(),
            member_id=reader.text(4 * MAX_NAME),
            identity_key=reader.fixed(32),
            current=reader.fixed(32),
            tls_request=reader.blob(MAX_CSR_BYTES),
        )
        reader.end()
        return statement


@dataclass(frozen=True)
class RenewalRequest:
    """A statement as it was signed: canonical encoding and Ed25519 signature (64 bytes)."""

    statement: bytes
    signature: bytes

    @classmethod
    def sign(cls, statement: RenewalStatement, key: Ed25519PrivateKey) -> RenewalRequest:
        """Return the statement, signed by the member's identity key."""
        encoded = statement.encode()
        return cls(encoded, key.sign(encoded))

    def verify(self, identity_key: bytes) -> RenewalStatement:
        """Return the statement if the member with this raw public key signed it.

        Raises:
            RenewalRefused: somebody else signed it, or nobody.
            MalformedMessage: it is signed, but no statement.
        """
        try:
            Ed25519PublicKey.from_public_bytes(identity_key).verify(self.signature, self.statement)
        except InvalidSignature as error:
            raise RenewalRefused(
                "the renewal is not signed by the member's identity key",
                hint="an identity key cannot be replaced; it takes an invitation under a new name",
            ) from error
        return RenewalStatement.decode(self.statement)


@dataclass(frozen=True)
class RenewalGrant:
    """New certificates in PEM, for the connections and for the signing key."""

    tls_certificate: bytes
    identity_certificate: bytes
