"""Founding the alliance, inviting, enrolling and revoking its members, and letting them in."""
