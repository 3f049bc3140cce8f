"""The coordinator's end of the fleet: a Flower grid over one gRPC stream per member."""

import shared.fleet.environment  # noqa: F401 - before any module here imports flwr
