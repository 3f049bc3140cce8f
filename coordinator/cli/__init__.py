"""The operator's command."""

import shared.fleet.environment  # noqa: F401 - before any command imports gRPC or Flower
