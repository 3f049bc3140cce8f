"""The vocabulary of listings, complaints and verdicts, and its validation."""
