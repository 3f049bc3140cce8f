"""Why does the coordinator hang up? gRPC cannot say, a bare TLS handshake can.

In TLS 1.3 the client's side of the handshake is complete before the server has looked at the
client's certificate (RFC 8446, section 4.4.2 and appendix E.1), and gRPC's server closes without
an alert. What remains visible is the pattern: handshake done, then the end of the stream instead
of the HTTP/2 settings that an accepting server sends first (RFC 9113, section 3.4).
"""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

from participant.node.config import NodeConfig
from participant.node.keystore import KeyStore, connection_pair, passphrase
from shared.errors import TouchstoneError
from shared.trust.errors import CertificateRefused, ConnectionCut

TRIES = 3
PAUSE_S = 0.2
TIMEOUT_S = 5.0


def explained(state_dir: Path, error: TouchstoneError) -> TouchstoneError:
    """Return ``error``, or what is behind it if it is a connection that was cut at once.

    A coordinator that is just stopping also cuts connections; but it does not accept the next
    one, so only the same refusal several times in a row is taken for one.
    """
    if not isinstance(error, ConnectionCut):
        return error
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        if not _refused(state_dir):
            return error
    return CertificateRefused(
        "the coordinator does not accept this node's certificate",
        hint="it may have expired or belong to another alliance; ask for a new invitation",
    )


def _refused(state_dir: Path) -> bool:
    config = NodeConfig.load(state_dir)
    host = config.coordinator.host
    try:
        context = tls_context(state_dir)
        with (
            socket.create_connection((host, config.coordinator.port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return secure.recv(1) == b""
    except (OSError, ssl.SSLError):
        return False


def tls_context(state_dir: Path) -> ssl.SSLContext:
    """Return a client context that trusts the alliance's authority and shows this node's pair.

    Raises:
        StateError: the folder has not joined an alliance, or a file is missing.
        KeyUnreadable: the key cannot be used.
        OSError: a file cannot be read.
    """
    secret, files = passphrase(NodeConfig.load(state_dir)), KeyStore.of(state_dir)
    context = ssl.create_default_context(cafile=str(files.ca))
    key = connection_pair(state_dir).key_path
    context.load_cert_chain(files.tls, key, password=lambda: secret or b"")
    context.set_alpn_protocols(["h2"])
    return context
