"""Carries an enrolment request to the coordinator that an invitation names."""

from __future__ import annotations

import grpc
from alliance.v1 import enrolment_pb2, enrolment_pb2_grpc

from shared.fleet.grpc_errors import reraised
from shared.fleet.wire import DIRECT
from shared.limits import MAX_ENROLMENT_MESSAGE_BYTES
from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest
from shared.trust.invitation import Invitation
from shared.trust.names import authority_of

TIMEOUT_S = 20.0


def exchange_over_grpc(
    invitation: Invitation, request: EnrolmentRequest, *, timeout_s: float = TIMEOUT_S
) -> EnrolmentGrant:
    """Send the request over TLS that trusts the invitation's authority and nothing else.

    Raises:
        CoordinatorNotTrusted: the machine that answers is not this alliance's coordinator.
        NetworkError: it cannot be reached.
        TimedOut: it does not answer.
        TokenRefused: it does not accept the token; other refusals keep their own class, too.
    """
    credentials = grpc.ssl_channel_credentials(root_certificates=invitation.ca_pem)
    target = authority_of(invitation.host, invitation.enrolment_port)
    options = [*DIRECT, ("grpc.max_receive_message_length", MAX_ENROLMENT_MESSAGE_BYTES)]
    with (
        grpc.secure_channel(target, credentials, options=options) as channel,
        reraised(f"enrol at {target}"),
    ):
        reply = enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enrol(
            enrolment_pb2.EnrolRequest(
                token=request.token,
                member_id=request.member_id,
                tls_request=request.tls_request,
                identity_request=request.identity_request,
            ),
            timeout=timeout_s,
        )
    return EnrolmentGrant(
        index=reply.index,
        member_id=reply.member_id,
        tls_certificate=reply.tls_certificate,
        identity_certificate=reply.identity_certificate,
        ca_certificate=reply.ca_certificate,
        coordinator_public_key=reply.coordinator_public_key,
        alliance_name=reply.alliance_name,
        port=reply.port,
    )
