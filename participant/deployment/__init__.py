"""Releases at a member: fetch, verify, judge on the own hold-out, activate, roll back."""
