"""Hash-chained audit logs: the arithmetic, without storage."""
