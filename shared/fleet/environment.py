"""Flower's and gRPC's switches, set before either starts.

Flower reports usage and asks for updates over the network unless told not to. An alliance tells
nobody that it exists, so both are off in every process of ours. Import this module first, before
anything from ``flwr``; an operator's own setting of a variable is overruled on purpose.
"""

from __future__ import annotations

import os

QUIET: dict[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}

os.environ.update(QUIET)

# gRPC's C core tells of every lost connection on stderr, where people read; our own log has them
# as well. It looks at this once, when gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
