"""Errors keep their class, text and hint across gRPC; gRPC's own are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from shared.errors import (
    InternalError,
    MemberRevoked,
    NetworkError,
    PolicyRefused,
    TimedOut,
    TokenRefused,
    TouchstoneError,
    all_error_classes,
)
from shared.fleet.grpc_errors import MAX_TEXT, from_rpc_error, metadata_of, reraised, typed_errors
from shared.trust.errors import ConnectionCut, CoordinatorNotTrusted


class Failure(grpc.RpcError):
    """A gRPC error as a client sees it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str = "",
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        super().__init__(details)
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._metadata


class Context:
    """Records how a call was ended, and ends it as gRPC does."""

    def __init__(self) -> None:
        self.ended: Failure | None = None

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> None:
        self.ended = Failure(code, details, trailing_metadata)
        raise grpc.aio.AbortError


def _through_the_wire(error: Exception) -> Failure:
    context = Context()

    async def call() -> None:
        async with typed_errors(context):  # type: ignore[arg-type]
            raise error

    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(call())
    assert context.ended is not None
    return context.ended


@pytest.mark.parametrize(
    "cls", [cls for cls in all_error_classes() if cls.__init__ is TouchstoneError.__init__]
)
def test_every_plain_class_comes_through(cls: type[TouchstoneError]) -> None:
    sent = _through_the_wire(cls("what happened", hint="what to do: ü", detail="secret"))
    received = from_rpc_error(sent, "ask")
    assert type(received).code == cls.code
    assert (received.message, received.hint) == ("what happened", "what to do: ü")
    assert sent.code().name == cls.grpc_status
    assert "secret" not in str(sent.trailing_metadata()) + sent.details()


def test_every_status_in_the_catalogue_exists() -> None:
    for cls in all_error_classes():
        assert cls.grpc_status in grpc.StatusCode.__members__, cls


def test_a_policys_reason_comes_through() -> None:
    sent = _through_the_wire(PolicyRefused("hours", "not now"))
    received = from_rpc_error(sent, "ask")
    assert isinstance(received, PolicyRefused)
    assert received.reason == "hours"


def test_a_bug_is_said_to_be_one_and_not_explained() -> None:
    sent = _through_the_wire(RuntimeError("password=hunter2"))
    assert isinstance(from_rpc_error(sent, "ask"), InternalError)
    assert "hunter2" not in str(sent.trailing_metadata()) + sent.details()


def test_metadata_is_what_grpc_allows() -> None:
    for key, value in metadata_of(TokenRefused("no", hint="ä")):
        assert key == key.lower()
        assert isinstance(value, bytes) == key.endswith("-bin")


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("... Hostname Verification Check failed.", CoordinatorNotTrusted),
        ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired", None),
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED: x: OK", None),
        ("failed to connect to all addresses; last error: ipv4:1.1.1.1:1: Socket closed", None),
        ("failed to connect to all addresses; last error: Connection refused", NetworkError),
        ("Socket closed", NetworkError),
    ],
)
def test_grpcs_own_failures_are_told_apart(
    details: str, expected: type[TouchstoneError] | None
) -> None:
    received = from_rpc_error(Failure(grpc.StatusCode.UNAVAILABLE, details), "ask")
    if expected is None:
        cut = details.endswith("Socket closed")
        expected = ConnectionCut if cut else CoordinatorNotTrusted
    assert type(received) is expected
    assert received.message.startswith("could not ask")


def test_a_deadline_and_anything_else() -> None:
    late = from_rpc_error(Failure(grpc.StatusCode.DEADLINE_EXCEEDED), "ask")
    assert type(late) is TimedOut
    for code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL):
        assert type(from_rpc_error(Failure(code), "ask")) is NetworkError


def test_a_hostile_peers_text_is_cut_and_cleaned() -> None:
    text = "\x1b[2J\n" + "x" * 10_000
    metadata = (("touchstone-code", "member_revoked"), ("touchstone-hint-bin", b"\xff\x1b"))
    received = from_rpc_error(Failure(grpc.StatusCode.UNKNOWN, text, metadata), "ask")
    assert isinstance(received, MemberRevoked)
    assert len(received.message) <= MAX_TEXT
    assert "\x1b" not in received.message + received.hint


def test_an_unknown_code_is_the_root_error() -> None:
    metadata = (("touchstone-code", "from_the_future"),)
    received = from_rpc_error(Failure(grpc.StatusCode.UNKNOWN, "new", metadata), "ask")
    assert type(received) is TouchstoneError


def test_the_client_side_raises_the_typed_error() -> None:
    failure = _through_the_wire(TokenRefused("no"))
    with pytest.raises(TokenRefused), reraised("ask"):
        raise failure
