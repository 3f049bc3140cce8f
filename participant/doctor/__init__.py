"""Looks a node over, from its installation to its coordinator, and explains what is wrong."""
