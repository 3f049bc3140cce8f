"""Errors across gRPC: a typed error on one side is the same typed error on the other.

A server sends the error's code and hint as trailing metadata and its public text as the status
message. A client that finds no code is looking at gRPC's or TLS's own failure and says which.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, Protocol

import grpc

from shared.errors import (
    InternalError,
    NetworkError,
    PolicyRefused,
    TimedOut,
    TouchstoneError,
    by_code,
)
from shared.trust.errors import ConnectionCut, CoordinatorNotTrusted

CODE_KEY = "touchstone-code"
HINT_KEY = "touchstone-hint-bin"
REASON_KEY = "touchstone-reason"

MAX_TEXT = 500
"""Characters of a peer's text that are shown: a hostile peer must not flood a terminal."""

_log = logging.getLogger(__name__)


class Aborts(Protocol):
    """The part of a ``grpc.aio`` servicer context used here."""

    def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> Awaitable[NoReturn]:
        """End the call with a status."""
        ...


def metadata_of(error: TouchstoneError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carries ``error`` to the other side."""
    pairs: list[tuple[str, str | bytes]] = [(CODE_KEY, error.code)]
    if error.hint:
        pairs.append((HINT_KEY, error.hint.encode()))
    if isinstance(error, PolicyRefused):
        pairs.append((REASON_KEY, error.reason))
    return tuple(pairs)


async def abort_with(context: Aborts, error: TouchstoneError) -> NoReturn:
    """End a call with a typed error; its detail stays in this process's log."""
    if error.detail:
        _log.info("call refused: %s: %s", error.code, error.detail)
    status = grpc.StatusCode[error.grpc_status]
    await context.abort(status, error.message, metadata_of(error))
    raise error  # abort() has raised; this tells the type checker


@asynccontextmanager
async def typed_errors(context: Aborts) -> AsyncIterator[None]:
    """Turn whatever the body raises into a status: typed errors as they are, others as a bug."""
    try:
        yield
    except TouchstoneError as error:
        await abort_with(context, error)
    except grpc.aio.BaseError:
        raise
    except Exception:  # noqa: BLE001 - a call's last line of defence; asyncio has its own
        _log.exception("unexpected error in a call")
        await abort_with(context, InternalError("the coordinator met an unexpected error"))


@contextmanager
def reraised(doing: str) -> Iterator[None]:
    """Raise gRPC errors of the body as typed errors; ``doing`` completes "could not …"."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, doing) from error


def from_rpc_error(error: grpc.RpcError, doing: str) -> TouchstoneError:
    """Return the typed error behind a gRPC error of the blocking or the asyncio client."""
    code: grpc.StatusCode = _call(error, "code") or grpc.StatusCode.UNKNOWN
    text = _shown(str(_call(error, "details") or ""))
    sent = _sent_metadata(error)
    if CODE_KEY in sent:
        return _remote(sent, text)
    debug = f"{text} {_call(error, 'debug_error_string') or ''}"
    return _handshake(debug, doing) or _plain(code, text, doing)


def _call(error: grpc.RpcError, name: str) -> Any:
    method: Callable[[], Any] | None = getattr(error, name, None)
    return method() if method else None


def _shown(text: str) -> str:
    return "".join(c for c in text[:MAX_TEXT] if c.isprintable())


def _sent_metadata(error: grpc.RpcError) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in _call(error, "trailing_metadata") or ():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        found[str(key)] = _shown(text)
    return found


def _remote(sent: dict[str, str], text: str) -> TouchstoneError:
    hint = sent.get(HINT_KEY, "")
    if sent[CODE_KEY] == PolicyRefused.code:
        return PolicyRefused(sent.get(REASON_KEY, ""), text, hint=hint)
    return by_code(sent[CODE_KEY])(text, hint=hint)


def _handshake(debug: str, doing: str) -> TouchstoneError | None:
    """Tell TLS failures apart by BoringSSL's and gRPC's texts; gRPC calls them all UNAVAILABLE."""
    if "Hostname Verification Check failed" in debug or "is not in peer certificate" in debug:
        return CoordinatorNotTrusted(
            f"could not {doing}: the coordinator's certificate is for another address",
            hint="use the host name that the alliance was founded with",
        )
    if "certificate has expired" in debug or "certificate is not yet valid" in debug:
        return CoordinatorNotTrusted(
            f"could not {doing}: the coordinator's certificate is out of date",
            hint="check this machine's clock; then ask the coordinator's operator",
        )
    if "CERTIFICATE_VERIFY_FAILED" in debug:
        return CoordinatorNotTrusted(
            f"could not {doing}: the machine that answers does not belong to this alliance",
            hint="check the address; a coordinator of another alliance may be listening there",
        )
    if "handshake failed" in debug.lower():
        return CoordinatorNotTrusted(
            f"could not {doing}: no secure connection could be agreed",
            hint="check that the address is a touchstone coordinator's, and the right port",
        )
    if "failed to connect" in debug and debug.rstrip().endswith("Socket closed"):
        return ConnectionCut(
            f"could not {doing}: the coordinator closed the connection at once",
            hint="it may be stopping, or it does not accept this certificate",
        )
    return None


def _plain(code: grpc.StatusCode, text: str, doing: str) -> TouchstoneError:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(f"could not {doing}: no answer in time")
    if code is grpc.StatusCode.UNAVAILABLE:
        return NetworkError(
            f"could not {doing}: the coordinator cannot be reached",
            hint="check the address, and that touchstone-coordinator serve is running",
            detail=text,
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NetworkError(
            f"could not {doing}: the machine that answers does not offer this service",
            hint="check the port: enrolment listens on the port above the members' one",
            detail=text,
        )
    return NetworkError(f"could not {doing}: {code.name.lower().replace('_', ' ')}", detail=text)
