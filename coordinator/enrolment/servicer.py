"""The enrolment service on gRPC: limits, the thread it runs in, errors with their codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from alliance.v1 import enrolment_pb2, enrolment_pb2_grpc

from coordinator.db import Database
from coordinator.enrolment.limiter import RateLimiter, address_of
from coordinator.enrolment.models import reply_of, request_of
from coordinator.enrolment.redeeming import Enrolment
from coordinator.enrolment.tls import enrolment_server_credentials
from shared.errors import NetworkError
from shared.fleet.grpc_errors import typed_errors
from shared.limits import MAX_ENROLMENT_MESSAGE_BYTES

MAX_CALLS = 32
"""Enrolments in flight; each is one short database transaction."""


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Adapts :class:`Enrolment` to ``grpc.aio``."""

    def __init__(self, service: Enrolment, limiter: RateLimiter) -> None:
        self._service = service
        self._limiter = limiter

    async def Enrol(  # noqa: N802 - the name is the protocol's
        self,
        request: enrolment_pb2.EnrolRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> enrolment_pb2.EnrolReply:
        """Redeem a token; the call ends with the typed error of a refusal."""
        async with typed_errors(context):
            self._limiter.check(address_of(context.peer()))
            grant = await asyncio.to_thread(self._service.enrol, request_of(request))
        return reply_of(grant)


def enrolment_server(state_dir: Path, db: Database, *, bind: str, port: int) -> grpc.aio.Server:
    """Return a server of the enrolment port, bound but not started.

    Args:
        state_dir: the coordinator's folder.
        db: its database.
        bind: address to listen on, without a port.
        port: enrolment port.

    Raises:
        NetworkError: the port is taken.
        KeyUnreadable: a key cannot be used.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.max_receive_message_length", MAX_ENROLMENT_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),  # a second coordinator must notice that the port is taken
        ],
    )
    servicer = EnrolmentServicer(Enrolment.open(state_dir, db), RateLimiter(db.clock))
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(servicer, server)
    credentials = enrolment_server_credentials(state_dir)
    try:
        server.add_secure_port(f"{bind}:{port}", credentials)
    except RuntimeError as error:
        raise NetworkError(
            f"the enrolment port {port} cannot be opened on {bind}",
            hint="another process may be using it",
        ) from error
    return server
