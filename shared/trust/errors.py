"""Refusals that only the trust layer makes; the common ones live in :mod:`shared.errors`."""

from __future__ import annotations

from shared.errors import AuthError, NetworkError, StateError, VerificationError


class CertificateRefused(AuthError):
    """A certificate is unreadable, of another alliance, expired or of the wrong kind."""

    code = "certificate_refused"


class RequestRefused(AuthError):
    """A signing request is unreadable, of the wrong key type or not signed by its own key."""

    code = "csr_refused"
    grpc_status = "INVALID_ARGUMENT"


class RenewalRefused(AuthError):
    """A member asks for certificates that are not a continuation of its own."""

    code = "renewal_refused"
    grpc_status = "PERMISSION_DENIED"


class FingerprintMismatch(AuthError):
    """The alliance's certificate is not the one that was announced."""

    code = "fingerprint_mismatch"


class ManifestExpired(VerificationError):
    """A run's manifest has expired: nothing may be asked for in the run any more."""

    code = "manifest_expired"


class KeyUnreadable(StateError):
    """A key file is missing, damaged, too widely readable or needs another passphrase."""

    code = "key_unreadable"


class RateLimited(NetworkError):
    """Too many requests from one address in a short time, or too many calls of one member."""

    code = "rate_limited"
    grpc_status = "RESOURCE_EXHAUSTED"


class CoordinatorNotTrusted(AuthError):
    """The machine that answers cannot prove that it is this alliance's coordinator."""

    code = "coordinator_not_trusted"


class ConnectionCut(NetworkError):
    """The peer closed the connection before the first answer; it may not accept who calls."""

    code = "connection_cut"
