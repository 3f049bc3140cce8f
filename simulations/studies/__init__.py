"""Studies: what was measured, with the commands that print it."""
