"""Between the wire's messages and the service's values."""

from __future__ import annotations

from alliance.v1 import enrolment_pb2

from shared.trust.enrolment import EnrolmentGrant, EnrolmentRequest


def request_of(message: enrolment_pb2.EnrolRequest) -> EnrolmentRequest:
    """Return a request as the service wants it; the service checks every field."""
    return EnrolmentRequest(
        token=message.token,
        member_id=message.member_id,
        tls_request=message.tls_request,
        identity_request=message.identity_request,
    )


def reply_of(grant: EnrolmentGrant) -> enrolment_pb2.EnrolReply:
    """Return a grant as it travels."""
    return enrolment_pb2.EnrolReply(
        index=grant.index,
        member_id=grant.member_id,
        tls_certificate=grant.tls_certificate,
        identity_certificate=grant.identity_certificate,
        ca_certificate=grant.ca_certificate,
        coordinator_public_key=grant.coordinator_public_key,
        alliance_name=grant.alliance_name,
        port=grant.port,
    )
