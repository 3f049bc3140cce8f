"""Flower messages, and how they travel between the coordinator and a member."""

import shared.fleet.environment  # noqa: F401 - before any module here imports flwr
