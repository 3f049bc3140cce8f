"""Scoring at home: risk, bands and reasons."""
