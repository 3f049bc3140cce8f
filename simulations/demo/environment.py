"""One thread a process, set before numpy and torch are loaded; import this first.

A dozen processes share this machine's few cores. With a thread a core each, they wait for one
another at every step: fitting a member's own model took six times as long on two cores.
"""

from __future__ import annotations

import os

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

os.environ.update(ONE_THREAD)
