"""A training run: plan, secure rounds, checkpoints, resume, release."""
