"""Records to hashed, weighted tokens."""
