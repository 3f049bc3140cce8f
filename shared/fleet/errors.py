"""What can go wrong with a message on its way."""

from __future__ import annotations

from shared.errors import MalformedMessage, StateError, VerificationError


class DigestMismatch(VerificationError):
    """A message arrived whole, but it is not the message whose digest was announced."""

    code = "digest_mismatch"


class MessageTooLarge(MalformedMessage):
    """A message is announced with more bytes than anybody accepts."""

    code = "message_too_large"


class IdentityInUse(StateError):
    """Another process has connected with the same member's key."""

    code = "identity_in_use"
    grpc_status = "ABORTED"
