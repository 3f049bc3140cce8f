"""What the two ports ask of a connection."""

from __future__ import annotations

from pathlib import Path

import grpc

from coordinator.enrolment.files import load_ca, load_server_pair
from shared.trust.certificates import to_pem


def mtls_server_credentials(state_dir: Path) -> grpc.ServerCredentials:
    """Return credentials for the members' port: no handshake without a member's certificate.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: the server's key cannot be used.
    """
    return grpc.ssl_server_credentials(
        [load_server_pair(state_dir)],
        root_certificates=to_pem(load_ca(state_dir)),
        require_client_auth=True,
    )


def enrolment_server_credentials(state_dir: Path) -> grpc.ServerCredentials:
    """Return credentials for the enrolment port, whose callers have no certificate yet.

    Raises:
        NotFound: no alliance has been founded in this folder.
        KeyUnreadable: the server's key cannot be used.
    """
    return grpc.ssl_server_credentials([load_server_pair(state_dir)])
