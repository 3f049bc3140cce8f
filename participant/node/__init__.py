"""The member's long-lived node: consent, keys, secrets, connection."""
