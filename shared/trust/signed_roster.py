"""The roster as the coordinator hands it out: signed, so that what a member was shown is on record.

A signature does not make the roster true, for the coordinator could invent members: whether to
believe it is the member's decision (`peers accept`, pinned fingerprints).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from shared.encoding import Writer
from shared.errors import VerificationError
from shared.trust.roster import Roster

DOMAIN = "touchstone/signed-roster/v1"


class RosterSignatureError(VerificationError):
    """The roster is not signed by this alliance's coordinator."""

    code = "roster_signature"


def sign_roster(roster: Roster, key: Ed25519PrivateKey) -> bytes:
    """Return the coordinator's 64-byte Ed25519 signature over a roster."""
    return key.sign(_message(roster.encode()))


def verify_roster(
    encoded: bytes, signature: bytes, coordinator_key: bytes, alliance_id: bytes
) -> Roster:
    """Check a roster as it came over the network and return it.

    Args:
        encoded: canonical encoding.
        signature: 64 bytes.
        coordinator_key: raw Ed25519 key, 32 bytes, pinned when the member joined.
        alliance_id: 16 bytes; the alliance this member is in.

    Raises:
        RosterSignatureError: another key signed it, or it is of another alliance.
        MalformedMessage: what was signed is no roster.
    """
    try:
        Ed25519PublicKey.from_public_bytes(coordinator_key).verify(signature, _message(encoded))
    except (InvalidSignature, ValueError) as error:
        raise RosterSignatureError("the roster is not signed by this coordinator") from error
    roster = Roster.decode(encoded)
    if roster.alliance_id != alliance_id:
        raise RosterSignatureError("the roster belongs to another alliance")
    return roster


def _message(encoded: bytes) -> bytes:
    return Writer(DOMAIN).blob(encoded).done()
