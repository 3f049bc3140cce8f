"""Looks a coordinator over, from its installation to its ports, and explains what is wrong."""
