"""The operator's side: founds the alliance, runs the secure rounds, releases models."""
