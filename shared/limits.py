"""Caps on every quantity a peer or a file controls, each with its reason."""

from __future__ import annotations

MAX_MEMBERS = 4096
"""Roster entries: far above any alliance; bounds the memory a forged roster can take."""

MAX_GROUP = 64
"""Members in one secure-sum group: set-up traffic is quadratic (docs: SECAGG, Scale)."""

MAX_MODEL_VALUES = 64_000_000
"""float32 values in one model: 256 MB, above every model this feature space can carry."""

CHUNK_BYTES = 512 * 1024
"""Payload of one frame: well under gRPC's 4 MiB limit, large enough to keep the pipe full."""

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""One fleet message after reassembly."""

GRANT_BYTES = 1024 * 1024
"""Uploads above this wait for a grant, so that coordinator memory does not grow with members."""

MAX_UPLOADS = 4
"""Large uploads in flight at once at the coordinator."""

MAX_NAME = 120
"""Characters in a name that people choose."""

MAX_CSR_BYTES = 8192
"""One certificate signing request."""
