"""Asks the coordinator about this node's own membership, over mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import grpc
from alliance.v1 import membership_pb2 as pb
from alliance.v1 import membership_pb2_grpc

from participant.node.registry_client import channel_factory
from shared.clock import from_unix
from shared.errors import MalformedMessage
from shared.fleet.grpc_errors import reraised
from shared.limits import MAX_ENROLMENT_MESSAGE_BYTES
from shared.trust.renewal import RenewalGrant, RenewalRequest

TIMEOUT_S = 10.0
"""One short question; also what a node that is told to stop may have to wait for."""


@dataclass(frozen=True)
class Admission:
    """What the coordinator says of a member it admits: who it is, and what it runs itself."""

    index: int
    member_id: str
    at: datetime
    software: str
    protocol: int


class MembershipClient:
    """Calls the membership service over an open channel.

    Every method raises a :class:`~shared.errors.NetworkError`, ``TimedOut`` or ``AuthError``
    where the connection fails, and whatever typed error the coordinator answers with.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = membership_pb2_grpc.MembershipServiceStub(channel)

    def check(self) -> Admission:
        """Return what the coordinator says.

        Raises:
            MalformedMessage: it tells a time that no calendar has.
        """
        with reraised("ask the coordinator"):
            reply: pb.CheckReply = self._stub.Check(pb.CheckRequest(), timeout=TIMEOUT_S)
        try:
            at = from_unix(reply.unix_ms // 1000) + timedelta(milliseconds=reply.unix_ms % 1000)
        except (ValueError, OverflowError, OSError) as error:
            raise MalformedMessage("the coordinator's time is no time") from error
        return Admission(reply.index, reply.member_id, at, reply.software, reply.protocol)

    def renew(self, request: RenewalRequest) -> RenewalGrant:
        """Exchange a signed request for new certificates, unverified."""
        with reraised("renew the certificate"):
            reply: pb.RenewReply = self._stub.Renew(
                pb.RenewRequest(statement=request.statement, signature=request.signature),
                timeout=TIMEOUT_S,
            )
        return RenewalGrant(reply.tls_certificate, reply.identity_certificate)


@contextmanager
def membership(state_dir: Path) -> Iterator[MembershipClient]:
    """Yield a client of the coordinator this folder joined, and close its channel afterwards.

    Raises:
        StateError: the folder has not joined an alliance.
        KeyUnreadable: the node's key cannot be used.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_ENROLMENT_MESSAGE_BYTES),
        ("grpc.use_local_subchannel_pool", 1),  # a channel of its own, with its own handshake
    ]
    with channel_factory(state_dir, options)() as channel:
        yield MembershipClient(channel)
