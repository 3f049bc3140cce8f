"""One root for every error a person may see, and one catalogue of what each means outside.

An error has a public text (safe to show and to send to a peer), an optional hint (what to do
next) and an optional detail for the local log only. Its class fixes a stable ``code``, the
process's exit code and the gRPC status it travels as.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes of both commands; part of the public interface."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    AUTH = 4
    NETWORK = 5
    TIMEOUT = 6
    VERIFICATION = 7
    POLICY = 8
    PARTIAL = 9
    DOCTOR = 10
    BUG = 70
    INTERRUPTED = 130


class TouchstoneError(Exception):
    """Root of the project's errors."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[Exit] = Exit.FAILED
    grpc_status: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class BadInput(TouchstoneError):
    """A file, value or record the user gave cannot be used."""

    code = "bad_input"
    exit_code = Exit.USAGE
    grpc_status = "INVALID_ARGUMENT"


class UsageMistake(TouchstoneError):
    """An option or argument of the command line is wrong or missing."""

    code = "usage"
    exit_code = Exit.USAGE
    grpc_status = "INVALID_ARGUMENT"


class Interrupted(TouchstoneError):
    """The person at the keyboard ended the command."""

    code = "interrupted"
    exit_code = Exit.INTERRUPTED
    grpc_status = "CANCELLED"


class ConfigError(TouchstoneError):
    """A configuration file is wrong."""

    code = "config"
    exit_code = Exit.CONFIG
    grpc_status = "FAILED_PRECONDITION"


class StateError(TouchstoneError):
    """The folder, database or run is not in a state that allows this."""

    code = "state"
    exit_code = Exit.CONFIG
    grpc_status = "FAILED_PRECONDITION"


class NotFound(StateError):
    """A named thing does not exist."""

    code = "not_found"
    grpc_status = "NOT_FOUND"


class StorageError(StateError):
    """The disk is full, read-only or broken."""

    code = "storage"
    grpc_status = "RESOURCE_EXHAUSTED"


class SystemRefused(StateError):
    """The operating system refused something, such as reading a file."""

    code = "system"


class AuthError(TouchstoneError):
    """A peer's identity is missing, unknown, expired or revoked."""

    code = "auth"
    exit_code = Exit.AUTH
    grpc_status = "UNAUTHENTICATED"


class TokenRefused(AuthError):
    """An invitation token is unknown, used or expired."""

    code = "token_refused"
    grpc_status = "PERMISSION_DENIED"


class MemberRevoked(AuthError):
    """The member's certificate has been revoked."""

    code = "member_revoked"
    grpc_status = "PERMISSION_DENIED"


class NetworkError(TouchstoneError):
    """The other side cannot be reached or the connection broke."""

    code = "network"
    exit_code = Exit.NETWORK
    grpc_status = "UNAVAILABLE"


class TimedOut(TouchstoneError):
    """Something took longer than its limit."""

    code = "timeout"
    exit_code = Exit.TIMEOUT
    grpc_status = "DEADLINE_EXCEEDED"


class VerificationError(TouchstoneError):
    """A signature, digest, version or chain does not hold."""

    code = "verification"
    exit_code = Exit.VERIFICATION
    grpc_status = "DATA_LOSS"


class MalformedMessage(VerificationError):
    """Bytes from a peer do not decode to a message."""

    code = "malformed"
    grpc_status = "INVALID_ARGUMENT"


class PolicyRefused(TouchstoneError):
    """A policy or privacy budget says no; ``reason`` is a stable reason code."""

    code = "policy_refused"
    exit_code = Exit.POLICY
    grpc_status = "PERMISSION_DENIED"

    def __init__(self, reason: str, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.reason = reason


class PartialSuccess(TouchstoneError):
    """Part of the work was done; the rest is listed in a file that the text names."""

    code = "partial"
    exit_code = Exit.PARTIAL
    grpc_status = "FAILED_PRECONDITION"


class InternalError(TouchstoneError):
    """A state that should not be reachable: a bug."""

    code = "internal"
    exit_code = Exit.BUG
    grpc_status = "INTERNAL"


def all_error_classes() -> list[type[TouchstoneError]]:
    """Return the root and every loaded subclass, in a stable order."""
    found: dict[str, type[TouchstoneError]] = {}
    stack: list[type[TouchstoneError]] = [TouchstoneError]
    while stack:
        cls = stack.pop()
        found[f"{cls.__module__}.{cls.__qualname__}"] = cls
        stack.extend(cls.__subclasses__())
    return [found[name] for name in sorted(found)]


def by_code(code: str) -> type[TouchstoneError]:
    """Return the error class of a code received from a peer, or the root if unknown."""
    for cls in all_error_classes():
        if cls.code == code and cls is not PolicyRefused:
            return cls
    return TouchstoneError
