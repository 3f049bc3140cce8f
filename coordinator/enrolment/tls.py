"""What the two ports ask of a connection."""

from __future__ import annotations

from pathlib import Path

import grpc

from coordinator.enrolment.server_certificate import ServerCertificate


def mtls_server_credentials(state_dir: Path) -> grpc.ServerCredentials:
    """Return credentials for the members' port: no handshake without a member's certificate.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: the server's key cannot be used.
    """
    return ServerCertificate(state_dir, members=True).credentials()


def enrolment_server_credentials(state_dir: Path) -> grpc.ServerCredentials:
    """Return credentials for the enrolment port, whose callers have no certificate yet.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: the server's key cannot be used.
    """
    return ServerCertificate(state_dir, members=False).credentials()
