"""The membership service on gRPC, on the members' port: admission, time and renewal."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from alliance.v1 import membership_pb2 as pb
from alliance.v1 import membership_pb2_grpc

from coordinator.db import Database
from coordinator.enrolment.access import Gatekeeper
from coordinator.enrolment.renewing import Renewals
from shared.clock import Clock
from shared.errors import InternalError
from shared.fleet.grpc_errors import typed_errors
from shared.fleet.wire import PROTOCOL
from shared.trust.peer import peer_pem
from shared.trust.renewal import RenewalRequest

Context = grpc.aio.ServicerContext[Any, Any]


def add(
    server: grpc.aio.Server, *, database: Database, directory: Path, gatekeeper: Gatekeeper
) -> None:
    """Serve the membership of a coordinator's folder on ``server``.

    Raises:
        KeyUnreadable: the authority's key is missing, damaged or encrypted otherwise.
    """
    renewals = Renewals.open(directory, database, gatekeeper)
    servicer = MembershipServicer(renewals, database.clock)
    membership_pb2_grpc.add_MembershipServiceServicer_to_server(servicer, server)


class MembershipServicer(membership_pb2_grpc.MembershipServiceServicer):
    """Every call is authenticated anew, so a revocation bites at once.

    Args:
        renewals: admits members and renews their certificates.
        clock: what members compare theirs with.
    """

    def __init__(self, renewals: Renewals, clock: Clock) -> None:
        self._renewals = renewals
        self._clock = clock

    async def Check(  # noqa: N802 - the name is the protocol's
        self,
        request: pb.CheckRequest,  # noqa: ARG002 - it has no fields
        context: Context,
    ) -> pb.CheckReply:
        """Tell an admitted member who it is and what time it is here."""
        async with typed_errors(context):
            pem = peer_pem(context.auth_context())
            peer = await asyncio.to_thread(self._renewals.admit, pem)
            return pb.CheckReply(
                index=peer.index,
                member_id=peer.member_id,
                unix_ms=int(self._clock.now().timestamp() * 1000),
                software=f"touchstone {version('touchstone')}",
                protocol=PROTOCOL,
            )
        raise InternalError("a refused call went on")

    async def Renew(  # noqa: N802 - the name is the protocol's
        self, request: pb.RenewRequest, context: Context
    ) -> pb.RenewReply:
        """Issue new certificates; the call ends with the typed error of a refusal."""
        async with typed_errors(context):
            pem = peer_pem(context.auth_context())
            signed = RenewalRequest(request.statement, request.signature)
            grant = await asyncio.to_thread(self._renewals.renew, pem, signed)
            return pb.RenewReply(
                tls_certificate=grant.tls_certificate,
                identity_certificate=grant.identity_certificate,
            )
        raise InternalError("a refused call went on")
